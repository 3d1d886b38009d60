#!/bin/sh
# Creates the user before files of its group are unpacked.
set -e
if ! getent passwd mde_exporter >/dev/null; then
  useradd --system --user-group --no-create-home --home-dir /var/lib/mde_exporter \
    --shell /usr/sbin/nologin mde_exporter
fi
