#!/bin/sh
# Launches the shop, kills one of its services while customers check out, and
# says how they fared. Called by `make demo`, which builds simian first. It
# needs root, as launching containers does. PORT says where the shop's web page
# is published while it runs.
set -eu
cd "$(dirname "$0")/../.."
sh examples/shop/build.sh
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT INT TERM HUP

set +e
SHOP_PORT=${PORT:-8080} bin/simian --state "$state" run examples/shop/recommendations-down.yaml
code=$?
cat <<'END'

Next:
  bin/simian run examples/shop/recommendations-down-no-fallback.yaml   the same without the fallback: FAIL, exit 1
  bin/simian run examples/shop/catalog-frozen.yaml                     a service that hangs
  bin/simian run examples/shop/bus-restart.yaml                        no order is lost
  docs/shop.md                                                         how the shop is built, and why it bears this
END
exit "$code"
