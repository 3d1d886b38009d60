#!/bin/sh
# dpkg --purge deletes configuration, credentials and storage. The user stays, so
# that no other gets its id.
set -e
if [ "$1" = purge ]; then
  rm -rf /etc/mde_exporter /var/lib/mde_exporter
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
