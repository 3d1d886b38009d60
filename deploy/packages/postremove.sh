#!/bin/sh
# dpkg --purge deletes configuration, credentials and storage. The user is kept, so
# that its id is not reused.
set -e
if [ "$1" = purge ]; then
  rm -rf /etc/mde_exporter /var/lib/mde_exporter
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
