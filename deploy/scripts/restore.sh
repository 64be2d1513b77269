#!/usr/bin/env bash
# Brings back what backup.sh wrote, in this cluster: CRDs, recipes, decisions, releases (the operator's first), AIMDeployments.
# What is there already is brought to the state of the backup. A recorded decision is kept where it can serve here.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: restore.sh [OPTION...] DIRECTORY [-- HELM-ARGUMENT...]

  --choose-anew  let recipes be chosen anew instead of keeping the recorded ones, for a cluster with other GPUs
  --dry-run      say what would be done
  -h, --help     this text

DIRECTORY is one that backup.sh wrote. What follows -- goes to every helm command, for example: -- --set image.tag=0.1.0
Ends with 1 when something could not be restored; the rest is done all the same.
TEXT
}

say() { printf '%s\n' "$*"; }
wrong() {
    printf '%s\n' "$*" >&2
    exit 2
}

chart="$(cd "$(dirname "${BASH_SOURCE[0]}")/../helm" && pwd)"
directory=
choose_anew=0
dry_run=0
helm_arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --choose-anew) choose_anew=1 ;;
        --dry-run) dry_run=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            helm_arguments=("$@")
            break
            ;;
        -*) wrong "unknown argument '$1'; see --help" ;;
        *)
            [ -z "$directory" ] || wrong "one directory only; see --help"
            directory="$1"
            ;;
    esac
    shift
done
[ -n "$directory" ] || wrong "name the directory that backup.sh wrote; see --help"
for file in releases.txt configmaps.yaml aimrecipes.yaml aimdeployments.yaml secrets.txt; do
    [ -f "$directory/$file" ] || wrong "$directory/$file is missing: this is no directory of backup.sh"
done
for program in kubectl helm; do
    command -v "$program" >/dev/null || wrong "$program is not on PATH; install it"
done

failed=0
run() {
    if [ "$dry_run" = 1 ]; then
        say "would run: $*"
        return 0
    fi
    "$@" || {
        failed=1
        printf 'failed: %s\n' "$*" >&2
        return 1
    }
}

namespaces() {
    {
        awk '{print $1}' "$directory/releases.txt"
        sed -n 's/^  namespace: //p' "$directory/configmaps.yaml" "$directory/aimdeployments.yaml"
    } | sort -u
}

apply_file() {
    if [ -s "$directory/$1" ]; then run kubectl apply --server-side --force-conflicts -f "$directory/$1" || true; fi
}

# A CRD of this very moment has no conditions yet, and kubectl wait ends with an error instead of waiting for them.
established() {
    for _ in 1 2 3 4 5; do
        if kubectl wait --for=condition=Established --timeout=60s -f "$chart/crds" >/dev/null 2>&1; then return 0; fi
        sleep 1
    done
    kubectl wait --for=condition=Established --timeout=60s -f "$chart/crds" >/dev/null
}

# Whether the backup holds the decision of a release.
recorded() {
    awk -v wanted="$2-recipe-config" -v where="$1" '
        /^---/ {name = ""; space = ""}
        /^  name: / {name = $2}
        /^  namespace: / {space = $2}
        name == wanted && space == where {found = 1}
        END {exit !found}' "$directory/configmaps.yaml"
}

while read -r namespace; do
    kubectl get namespace "$namespace" >/dev/null 2>&1 || run kubectl create namespace "$namespace" || true
done < <(namespaces)

while IFS=/ read -r namespace name; do
    kubectl get secret "$name" --namespace "$namespace" >/dev/null 2>&1 ||
        say "Secret $namespace/$name is missing: the deployments that name it wait until it is there"
done <"$directory/secrets.txt"

# As helm's own manager, so that later releases of the chart meet no conflict.
run kubectl apply --server-side --force-conflicts --field-manager=helm -f "$chart/crds" || true
[ "$dry_run" = 1 ] || established || failed=1
apply_file aimrecipes.yaml
apply_file configmaps.yaml

while read -r namespace release; do
    words=(upgrade --install "$release" "$chart" --namespace "$namespace" --values "$directory/releases/$namespace/$release.yaml" --reset-values)
    if [ "$choose_anew" = 0 ] && recorded "$namespace" "$release"; then words+=(--set aim_engine.restore_from_backup=true); fi
    # The chart keeps what an installed release asked for and its values no longer say: helm takes this object over.
    asked="$directory/releases/$namespace/$release.aimdeployment.yaml"
    before="$(kubectl get aimdeployment "$release" --namespace "$namespace" -o name 2>/dev/null || true)"
    if [ -f "$asked" ]; then run kubectl apply --server-side --force-conflicts --field-manager=helm -f "$asked" || true; fi
    if ! run helm "${words[@]}" ${helm_arguments[@]+"${helm_arguments[@]}"} </dev/null; then
        kubectl logs "job/$release-recipe-selector" --namespace "$namespace" --all-containers --tail=40 2>/dev/null || true
        [ -n "$before" ] || kubectl delete aimdeployment "$release" --namespace "$namespace" --ignore-not-found
        say "$namespace/$release was not restored. Where its recorded recipe cannot serve here: restore.sh --choose-anew $directory"
    fi
done <"$directory/releases.txt"
apply_file aimdeployments.yaml

if [ "$failed" = 1 ]; then
    say "Something was not restored, see above; the rest is done. Running restore.sh again is safe."
    exit 1
fi
say "Restored from $directory. How it stands: kubectl get aimdeployments --all-namespaces -o wide"
