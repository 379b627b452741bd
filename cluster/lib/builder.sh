# In: buildah.  Out: its storage and settings, all in the cache.  Rule: nothing of this machine's own containers is read.
# shellcheck shell=bash disable=SC2034

BASE=docker.io/library/python:3.12-slim

use_buildah() {
  mkdir -p "$BUILDAH"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$BUILDAH" "$BUILDAH" >"$BUILDAH/storage.conf"
  printf 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n' >"$BUILDAH/registries.conf"
  # chroot: works where a container in a container does not
  export CONTAINERS_STORAGE_CONF=$BUILDAH/storage.conf CONTAINERS_REGISTRIES_CONF=$BUILDAH/registries.conf BUILDAH_ISOLATION=chroot
}

has_image() { [ -n "$(buildah images -q "$1" 2>/dev/null)" ]; }

# buildah keeps its storage folder mounted on itself; between builds nothing of ours stays mounted
rest_buildah() { ! mountpoint -q "$BUILDAH/graph/overlay" || umount "$BUILDAH/graph/overlay" || true; }

# every changed source leaves layers behind; three hundred of them are about 8 GB
forget_old_layers() {
  [ "$(buildah images -aq | wc -l)" -lt 300 ] || progress "removing old layers" "$LOGS/prune.log" buildah rmi --prune --force
}

engine_answers() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }
