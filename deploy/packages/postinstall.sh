#!/bin/sh
# Restarts a service that runs. A new one is not started: it needs a configuration.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart mde_exporter.service
fi
