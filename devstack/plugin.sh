#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# DevStack sources this with a mode and a phase. It runs the bridge;
# osprofiler's own plugin switches profiling on in the services.

function install_profiler_bridge {
    local extras=api
    if is_service_enabled postgresql; then
        extras+=,postgresql
    fi
    setup_develop "$PROFILER_BRIDGE_DIR" "$extras"
}

# Placement has no bus, and the conductor of a cell may have the cell's: they
# have to send to the one that the bridge listens on.
function configure_senders {
    local conf i
    local confs=("$PLACEMENT_CONF")
    for i in $(seq 1 "${NOVA_NUM_CELLS:-1}"); do
        confs+=("$(conductor_conf "$i")")
    done
    for conf in "${confs[@]}"; do
        if [[ -f "$conf" ]]; then
            iniset "$conf" oslo_messaging_notifications transport_url "$(get_notification_url)"
        fi
    done
}

function configure_profiler_bridge {
    sudo install -d -o "$STACK_USER" "$PROFILER_BRIDGE_CONF_DIR"
    sudo install -d -m 0700 -o "$STACK_USER" "$PROFILER_BRIDGE_STATE_DIR"
    # There are passwords in it.
    rm -f "$PROFILER_BRIDGE_CONF"
    install -m 0600 /dev/null "$PROFILER_BRIDGE_CONF"

    local storage=$PROFILER_BRIDGE_CONNECTION_STRING
    if [[ -z "$storage" ]]; then
        recreate_database profiler_bridge
        # database_connection_url may add DevStack's counter of queries.
        storage=$BASE_SQL_CONN/profiler_bridge
    fi
    iniset_rpc_backend profiler_bridge "$PROFILER_BRIDGE_CONF"
    iniset "$PROFILER_BRIDGE_CONF" DEFAULT debug "$ENABLE_DEBUG_LOG_LEVEL"
    iniset "$PROFILER_BRIDGE_CONF" osprofiler connection_string "$storage"
    iniset "$PROFILER_BRIDGE_CONF" bridge set_aside "$PROFILER_BRIDGE_STATE_DIR/set-aside.sqlite"
}

function start_profiler_bridge {
    local bin service
    bin=$(get_python_exec_prefix)
    for service in profiler-bridge profiler-bridge-api; do
        run_process "$service" "$bin/$service --config-file $PROFILER_BRIDGE_CONF"
    done
}

function stop_profiler_bridge {
    stop_process profiler-bridge-api
    stop_process profiler-bridge
}

function clean_profiler_bridge {
    sudo rm -rf "${PROFILER_BRIDGE_CONF_DIR:?}" "${PROFILER_BRIDGE_STATE_DIR:?}"
}

if is_service_enabled profiler-bridge; then
    case "$1 ${2:-}" in
        "stack install")
            echo_summary "Installing profiler_bridge"
            install_profiler_bridge
            ;;
        "stack post-config")
            echo_summary "Configuring profiler_bridge"
            configure_profiler_bridge
            configure_senders
            ;;
        "stack extra")
            echo_summary "Starting profiler_bridge"
            start_profiler_bridge
            ;;
        "unstack ")
            stop_profiler_bridge
            ;;
        "clean ")
            clean_profiler_bridge
            ;;
    esac
fi
