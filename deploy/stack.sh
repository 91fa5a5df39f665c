#!/bin/sh
# The demo stack: deploy/stack.sh up | down | wipe | logs [SERVICE] | status | again
#
#   up      makes secrets (once), builds the image, starts everything and waits until all is well
#   down    stops everything; data is kept
#   wipe    stops everything, and removes its data and secrets
#   status  what `abmonitor status` says; also: pause, resume, rollback, rearm, end, decisions, explain
#   again   arms the treatment again and gives it its traffic back; --force where that is too soon
set -eu
here="$(CDPATH='' cd -- "$(dirname "$0")" && pwd)"
compose() { docker compose -f "$here/compose.yaml" "$@"; }

up() {
  docker compose version >/dev/null 2>&1 || {
    echo "deploy/stack.sh: needs Docker with Compose 2.23 or newer (https://docs.docker.com/compose/install/); without it see" \
      "'The parts' in deploy/README.md" >&2
    exit 1
  }
  "$here/secrets.sh"
  compose up --build --detach --wait --wait-timeout 300
  cat <<EOT

The stack is up. Traffic flows; in three minutes the treatment's features break, and soon after it is rolled back.

  dashboard      http://localhost:3000/d/abmonitor-experiment   (user admin, password in deploy/secrets/grafana-password)
  the monitors   http://localhost:8000/  http://localhost:8010/   (token in deploy/secrets/operator-token)
  Prometheus     http://localhost:9090/alerts
  Alertmanager   http://localhost:9093/    (what chat and pager got: http://localhost:9094/)
  status         deploy/stack.sh status
  try it again   deploy/stack.sh again --force
  end            deploy/stack.sh down
EOT
}

operate() { # a command of people, with the operator's token, in the container of a monitor
  ABMONITOR_TOKEN="$(cat "$here/secrets/operator-token")"
  export ABMONITOR_TOKEN
  compose exec -T -e ABMONITOR_URL=http://127.0.0.1:8000 -e ABMONITOR_TOKEN monitor-1 abmonitor "$@"
}

again() { # an order takes traffic away; giving it back is the router's business
  operate rearm offers --treatment ranker-v2 --reason "tried again" "$@"
  compose exec -T load python /etc/abmonitor/give_back.py \
    http://127.0.0.1:8080/rearm /run/secrets/rollback-secret offers ranker-v2
}

case "${1:-}" in
  up) up ;;
  down) compose down ;;
  wipe)
    compose down --volumes
    rm -rf "$here/secrets"
    ;;
  logs)
    shift
    compose logs --follow --tail 100 "$@"
    ;;
  status | pause | resume | rollback | rearm | end | decisions | explain)
    operate "$@"
    ;;
  again)
    shift
    again "$@"
    ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
