#!/bin/sh
# Says under which digest each image of the Dockerfile and of compose.yaml is to be had today, and whether that is the pinned one.
# A tag that was built anew (security updates) has another digest: look at it, then write it into the file.
#
#   deploy/pin.sh            needs Docker with buildx, and a network
set -eu
cd "$(dirname "$0")"
changed=0
for image in $(sed -n -e 's/^ARG PYTHON=//p' Dockerfile) $(sed -n -e 's/^ *image: \(.*@sha256:.*\)$/\1/p' compose.yaml); do
  tag="${image%@*}"
  pinned="${image#*@}"
  found="$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag")"
  if [ "$found" = "$pinned" ]; then
    echo "same     $tag"
  else
    echo "changed  $tag@$found"
    changed=1
  fi
done
exit "$changed"
