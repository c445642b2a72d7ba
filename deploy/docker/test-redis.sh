#!/usr/bin/env bash
# Builds an image with Debian 13's redis-server, for tests where the official image cannot be pulled.
set -euo pipefail
image=$1
# The mirror of this machine. sed reports a missing file and continues.
mirror=$( { sed -nE 's/^(URIs: *|deb (\[[^]]*\] )?)(https?:\/\/[^ ]*\/debian)\/?( .*)?$/\3/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } | sed -n 1p)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=redis-server trixie "$folder/root" "$mirror" >"$folder/log" ||
    { tail -n 20 "$folder/log" >&2; exit 1; }
tar -C "$folder/root" -c . | docker import \
    --change 'CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]' - "$image"
