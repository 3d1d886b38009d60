#!/bin/sh
# Restarts the service if it is running. A new service is not started: it needs a
# configuration first.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart mde_exporter.service
fi
