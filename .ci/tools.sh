#!/usr/bin/env bash
# Gets what tests of deploy/ need and neither Debian nor PyPI has, through Go's module proxy: Helm, the reader of
# Compose files, Argo's way to judge a measurement, and definitions of custom resources. Versions are pinned, and Go checks their sums. What is there
# already is left as it is; a first run takes some minutes, nearly all of them for Helm.
#
#   .ci/tools.sh [FOLDER]      FOLDER: $ABMONITOR_TOOLS, or build/tools; tests look there too
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${ABMONITOR_TOOLS:-build/tools}}

HELM=v3.16.4 # the newest that Go 1.22 builds; `helm lint` and `helm template` of newer ones say the same
COMPOSE=v2.4.7 # what `docker compose` reads files by; builds with Go 1.21
definitions=( # module, and the files in it
  "github.com/argoproj/argo-rollouts@v1.10.2 manifests/crds/rollout-crd.yaml manifests/crds/analysis-template-crd.yaml"
  "github.com/fluxcd/flagger@v1.36.1 artifacts/flagger/crd.yaml"
  "github.com/kedacore/keda/v2@v2.21.0 config/crd/bases/keda.sh_scaledobjects.yaml pkg/scalers/kafka_scaler.go"
  "github.com/prometheus-operator/prometheus-operator@v0.85.0
    example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml
    example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"
)

is_done() { [[ -f "$folder/$1" && "$(cat "$folder/$1")" == "$2" ]]; }

needs_go() {
  if ! command -v go >/dev/null; then
    echo ".ci/tools.sh: no Go; install 1.22 or newer (https://go.dev/dl), or give the tests a folder that was" \
      "filled elsewhere, as ABMONITOR_TOOLS" >&2
    exit 1
  fi
}

mkdir -p "$folder/bin" "$folder/definitions"
folder=$(cd "$folder" && pwd)

if ! is_done bin/helm.version "$HELM"; then
  needs_go
  echo "helm $HELM (once; this takes some minutes)" >&2
  GOBIN="$folder/bin" go install -ldflags="-s -w" "helm.sh/helm/v3/cmd/helm@$HELM"
  echo "$HELM" >"$folder/bin/helm.version"
fi

if ! is_done bin/compose-config.version "$COMPOSE"; then
  needs_go
  echo "compose-config $COMPOSE" >&2
  GOBIN="$folder/bin/compose" GOFLAGS=-trimpath go install -ldflags="-s -w" "github.com/compose-spec/compose-go/v2/cmd@$COMPOSE"
  mv "$folder/bin/compose/cmd" "$folder/bin/compose-config" # its own name says nothing
  rmdir "$folder/bin/compose"
  echo "$COMPOSE" >"$folder/bin/compose-config.version"
fi

source=tests/support/conditions
sum=$(cat $source/main.go $source/go.mod $source/go.sum | cksum)
if ! is_done bin/conditions.version "$sum"; then
  needs_go
  echo "conditions" >&2
  (cd $source && go build -buildvcs=false -o "$folder/bin/conditions" .)
  echo "$sum" >"$folder/bin/conditions.version"
fi

for line in "${definitions[@]}"; do
  read -r -d '' -a words <<<"$line" || true
  module=${words[0]} files=("${words[@]:1}")
  name=${module//\//_}
  is_done "definitions/$name" "${files[*]}" && continue
  needs_go
  echo "definitions of $module" >&2
  # A module that needs a newer Go than this one is told as an error, after it was fetched and its sum checked.
  found=$(go mod download -json "$module" || true)
  FOUND=$found python3 - "$module" "$folder/definitions" "${files[@]}" <<'PYTHON'
import json, os, pathlib, sys, zipfile

module, folder, *files = sys.argv[1:]
told = json.loads(os.environ["FOUND"] or "{}")
if "Zip" not in told or "Sum" not in told:
    sys.exit(f".ci/tools.sh: cannot get {module}: {told.get('Error', 'go said nothing')}")
with zipfile.ZipFile(told["Zip"]) as archive:
    for file in files:
        text = archive.read(f"{module}/{file}")
        (pathlib.Path(folder) / f"{module.split('@')[0].replace('/', '_')}_{pathlib.Path(file).name}").write_bytes(text)
PYTHON
  echo "${files[*]}" >"$folder/definitions/$name"
done
