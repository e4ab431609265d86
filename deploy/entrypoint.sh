#!/bin/sh
# Starts any service of the images: files private, dagster.yaml in its place, then the command.
set -eu
umask 077
mkdir -p "$DAGSTER_HOME"
new=$(mktemp "$DAGSTER_HOME/dagster.yaml.XXXXXX")
cp "${DAGSTER_YAML:-/etc/forexgpt/dagster.yaml}" "$new"
mv "$new" "$DAGSTER_HOME/dagster.yaml" # in one step: the services share this folder and start together
exec "$@"
