#!/bin/sh
# Ingest, annotate, train, evaluate and stats on examples/raw.
# usage: examples/demo.sh USDS FOLDER     USDS: the usds program; FOLDER: made anew, gets everything
set -eu

usds=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
raw=$(cd "$(dirname "$0")" && pwd)/raw
key=$(cd "$(dirname "$0")" && pwd)/demo.key

rm -rf "$2"
mkdir -p "$2"
cd "$2"
USDS_STATE=$PWD/state
export USDS_STATE

say() { printf '\n== %s\n' "$*"; }

say "usds ingest examples/raw --key examples/demo.key   (the key is public: for examples only)"
status=0
"$usds" ingest "$raw" --key "$key" || status=$?
# 3: done, and some files were refused, which the example folder contains on purpose
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status"

say "usds annotate --taxonomy udt.yaml"
"$usds" annotate --taxonomy udt.yaml

say "usds train --preset tiny"
"$usds" train --preset tiny

say "usds evaluate"
"$usds" evaluate

say "usds stats --html report.html"
"$usds" stats --html report.html

printf '\nThe report: %s\n' "$PWD/report.html"
