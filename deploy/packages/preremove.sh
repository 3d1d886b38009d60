#!/bin/sh
# Stops the service. An upgrade lets it run; the new package restarts it.
set -e
case $1 in
  0 | remove) ;; # rpm and dpkg say so
  *) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
  systemctl disable --now mde_exporter.service
fi
