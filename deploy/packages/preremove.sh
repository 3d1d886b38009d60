#!/bin/sh
# Stops the service, except during an upgrade: the new package restarts it.
set -e
case $1 in
  0 | remove) ;; # removal with rpm and dpkg
  *) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
  systemctl disable --now mde_exporter.service
fi
