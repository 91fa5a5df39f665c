#!/bin/sh
# Makes the secrets of the demo stack, once: random values in files that git ignores.
#
#   deploy/secrets.sh [FOLDER]      default: deploy/secrets
#
# A file that is there is kept, with all that depends on it; remove the folder to have new ones. The folder is closed to
# others; the files in it are not, because in containers they are read by users of other numbers.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
umask 077
mkdir -p "$folder"
cd "$folder"

random() { # that many random bytes, in hexadecimal digits
  od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}

sha256() { # of what stands in a file, without a line break
  if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

keep() { # NAME TEXT: a file with this text, unless there is one
  test -e "$1" || printf '%s' "$2" >"$1"
}

keep redis-password "$(random 24)"
keep redis-url "redis://abmonitor:$(cat redis-password)@redis:6379/0"
keep operator-token "abm_$(random 32)"
keep alertmanager-token "abm_$(random 32)"
keep rollback-secret "$(random 32)"
keep grafana-password "$(random 12)"
# Where people are told: the demo's inbox, until you put an address of your own here.
keep chat-url http://inbox:9094/chat
keep pager-url http://inbox:9094/pager

# Whoever does not log in may only ask whether Redis is there: that is the health check. What abmonitor is
# allowed is what it needs (docs/settings.md); its keys begin with the name of the deployment, `stack`.
cat >redis-users.acl <<ACL
user default on nopass resetkeys resetchannels -@all +ping
user abmonitor on #$(sha256 redis-password) ~{stack}* ~{stack:* resetchannels -@all +@read +@write +@transaction +@connection -@dangerous +info
ACL

cat >tokens.yaml <<TOKENS
# Who may act; the tokens themselves stand in operator-token and alertmanager-token.
tokens:
  - {name: "operator", sha256: "$(sha256 operator-token)", role: operate, experiments: ["*"]}
  - {name: "alertmanager", sha256: "$(sha256 alertmanager-token)", role: operate, experiments: ["*"]}
TOKENS

chmod 644 -- *
