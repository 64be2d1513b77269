#!/usr/bin/env bash
# Installs or upgrades one release of the AIM Engine chart: checks the cluster first, waits until the model answers, and says
# which recipe was chosen and why, or what is in the way.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: deploy-with-recipe-support.sh [OPTION...] [-- HELM-ARGUMENT...]

  --release NAME      release, and name of its AIMDeployment       (aim-engine)
  --namespace NAME    namespace, made where it is missing          (the context's, or aim-engine where that is default)
  --model ID          model on the Hugging Face Hub                (aim_engine.model_id)
  --gpu-type MODEL    GPU model, for example MI300X                (aim_engine.hardware.gpu_type)
  --gpu-count N       GPUs per replica                             (aim_engine.gpu_count)
  --precision FORMAT  bf16, fp16, fp8, int8, int4 or mxfp4         (aim_engine.precision)
  --values FILE       file of values, may be given several times
  --timeout TIME      so long to wait for the model                (30m)
  --no-wait           do not wait
  --check             check only, install nothing
  -h, --help          this text

What follows -- goes to helm as it is, for example: -- --set monitoring.enabled=true
Ends with 0 when the model answers (or, with --no-wait, is installed), 1 when it does not, 2 when it is called wrongly,
3 when the cluster cannot take the installation.
TEXT
}

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
ok() { printf '  ok    %s\n' "$*"; }
warn() { printf '  warn  %s\n' "$*" >&2; }
fail() {
    printf '  FAIL  %s\n' "$*" >&2
    broken=1
}
wrong() {
    printf '%s\n' "$*" >&2
    exit 2
}

chart="$(cd "$(dirname "${BASH_SOURCE[0]}")/../helm" && pwd)"
release=aim-engine
namespace=
gpu_type=
timeout=30m
wait_ready=1
check_only=0
broken=0
helm_arguments=()
extra_arguments=()

while [ $# -gt 0 ]; do
    case "$1" in
        --release | --namespace | --model | --gpu-type | --gpu-count | --precision | --values | --timeout)
            [ $# -ge 2 ] || wrong "$1 needs a value; see --help"
            case "$1" in
                --release) release="$2" ;;
                --namespace) namespace="$2" ;;
                --model) helm_arguments+=(--set-string "aim_engine.model_id=$2") ;;
                --gpu-type)
                    gpu_type="$2"
                    helm_arguments+=(--set-string "aim_engine.hardware.gpu_type=$2")
                    ;;
                --gpu-count) helm_arguments+=(--set "aim_engine.gpu_count=$2") ;;
                --precision) helm_arguments+=(--set-string "aim_engine.precision=$2") ;;
                --values) helm_arguments+=(--values "$2") ;;
                --timeout) timeout="$2" ;;
            esac
            shift 2
            ;;
        --no-wait)
            wait_ready=0
            shift
            ;;
        --check)
            check_only=1
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            extra_arguments=("$@")
            break
            ;;
        *) wrong "unknown argument '$1'; see --help" ;;
    esac
done

check_programs() {
    local program
    for program in kubectl helm; do
        if command -v "$program" >/dev/null; then ok "$program is there"; else fail "$program is not on PATH; install it"; fi
    done
    [ "$broken" = 0 ] || exit 3
    local version major minor
    version="$(helm version --template '{{.Version}}')"
    IFS=. read -r major minor _ <<<"${version#v}"
    if [ "${major:-0}" -ge 4 ] || { [ "${major:-0}" = 3 ] && [ "${minor:-0}" -ge 14 ]; }; then
        ok "helm $version"
    else
        fail "helm $version is too old; 4, or 3.14 and newer, is needed"
    fi
}

# What the schema of the values refuses, and GPU models that nobody knows. Arguments after -- are helm's alone.
check_values() {
    local told
    if ! told="$(helm template "$release" "$chart" --namespace "$namespace" ${helm_arguments[@]+"${helm_arguments[@]}"} 2>&1 >/dev/null)"; then
        wrong "$told"
    fi
    if [ -n "$gpu_type" ] && ! grep -q "^$gpu_type " "$chart/files/gpus.txt"; then
        wrong "--gpu-type $gpu_type: no such GPU is known; use one of $(cut -d ' ' -f 1 "$chart/files/gpus.txt" | paste -s -d ' ' -)"
    fi
    ok "the values are well formed"
}

check_cluster() {
    local version minor
    if ! version="$(kubectl get --raw /version 2>&1)"; then
        fail "no cluster answers: ${version##*$'\n'}; check kubectl config current-context"
        exit 3
    fi
    minor="$(sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' <<<"$version")"
    if [ "${minor:-0}" -ge 30 ]; then
        ok "the cluster answers: Kubernetes 1.$minor"
    else
        fail "Kubernetes 1.${minor:-?} is too old; 1.30 or newer is needed"
    fi
    if [ -z "$namespace" ]; then
        namespace="$(kubectl config view --minify -o 'jsonpath={..namespace}' 2>/dev/null || true)"
        case "$namespace" in '' | default) namespace=aim-engine ;; esac
    fi
}

operator_elsewhere() {
    kubectl get deployments --all-namespaces -l app.kubernetes.io/name=aim-engine,app.kubernetes.io/component=operator \
        -o 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.labels.app\.kubernetes\.io/instance}{"\n"}{end}' 2>/dev/null |
        grep -vx "$namespace/$release" | head -n 1 || true
}

check_rights() {
    local what other
    other="$(operator_elsewhere)"
    if [ -n "$other" ]; then
        ok "the operator of release $other serves this one"
        set -- create:jobs.batch create:aimdeployments.aim.engine.amd.com create:clusterroles.rbac.authorization.k8s.io
    else
        set -- create:jobs.batch create:customresourcedefinitions.apiextensions.k8s.io create:clusterroles.rbac.authorization.k8s.io \
            create:validatingwebhookconfigurations.admissionregistration.k8s.io
    fi
    for what in "$@"; do
        if kubectl auth can-i "${what%%:*}" "${what#*:}" -n "$namespace" >/dev/null 2>&1; then
            ok "you may ${what%%:*} ${what#*:}"
        else
            fail "you may not ${what%%:*} ${what#*:}; ask an administrator of the cluster"
        fi
    done
}

check_gpus() {
    local nodes count labelled
    # shellcheck disable=SC2016  # variables of the template, not of the shell
    nodes="$(kubectl get nodes -o 'go-template={{range .items}}{{$name := .metadata.name}}{{range $resource, $amount := .status.allocatable}}{{$name}} {{$resource}} {{$amount}}{{"\n"}}{{end}}{{end}}')"
    count="$(awk '$2 ~ /^amd\.com\// && $3 > 0 {sum += $3} END {print sum + 0}' <<<"$nodes")"
    if [ "$count" -gt 0 ]; then
        ok "$count AMD GPUs on $(awk '$2 ~ /^amd\.com\// && $3 > 0 {print $1}' <<<"$nodes" | sort -u | wc -l | tr -d ' ') nodes"
    else
        warn "no node offers amd.com/gpu: the model will wait; install AMD's device plugin, or add GPU nodes"
        return 0
    fi
    labelled="$(kubectl get nodes --show-labels --no-headers | grep -cE 'amd\.com/gpu\.(device-id|product-name)' || true)"
    if [ "$labelled" = 0 ]; then
        warn "no node has labels of AMD's node labeller, so GPU models are not known; install it, or set operator.config.engine.gpuLabels"
    elif [ -n "$gpu_type" ]; then
        check_gpu_type
    fi
}

check_gpu_type() {
    local known nodes
    # A device ID, or a product name among the words of AMD_Instinct_MI300X_OAM; MI250X and MI250 are not one.
    known="$(sed -n "s/^$gpu_type //p" "$chart/files/gpus.txt" | tr ' ' '|')"
    nodes="$(kubectl get nodes --show-labels --no-headers)"
    if grep -qE "amd\.com/gpu\.(device-id=|product-name=([^,]*_)?)($known)(_|,|$)" <<<"$nodes"; then
        ok "a node has $gpu_type"
    else
        warn "no node is labelled as $gpu_type: the model will wait; leave --gpu-type out, or add such nodes"
    fi
}

ensure_namespace() {
    if kubectl get namespace "$namespace" >/dev/null 2>&1; then
        ok "namespace $namespace"
    elif [ "$check_only" = 1 ]; then
        ok "namespace $namespace would be made"
    else
        kubectl create namespace "$namespace" >/dev/null
        ok "namespace $namespace was made"
    fi
}

install() {
    local words=(install)
    if helm status "$release" --namespace "$namespace" >/dev/null 2>&1; then words=(upgrade --reset-then-reuse-values); fi
    words+=("$release" "$chart" --namespace "$namespace")
    if helm "${words[@]}" ${helm_arguments[@]+"${helm_arguments[@]}"} ${extra_arguments[@]+"${extra_arguments[@]}"}; then return 0; fi
    say
    say "helm did not succeed. What the selector said:"
    kubectl logs "job/$release-recipe-selector" -n "$namespace" --all-containers --tail=60 2>/dev/null || say "  nothing: it did not run"
    say "To begin anew after a failed first installation: helm uninstall $release -n $namespace"
    return 1
}

explain() {
    local recorded
    recorded="$(kubectl get configmap "$release-recipe-config" -n "$namespace" -o 'jsonpath={.data.explanation\.txt}' 2>/dev/null || true)"
    [ -z "$recorded" ] || printf '%s\n\n' "$recorded"
    kubectl get aimdeployment "$release" -n "$namespace" -o wide
    say
    kubectl get aimdeployment "$release" -n "$namespace" \
        -o 'jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}'
}

step "Checks"
check_programs
check_cluster
check_values
check_rights
check_gpus
[ "$broken" = 0 ] || exit 3
ensure_namespace
[ "$check_only" = 0 ] || exit 0

step "Installation of $release into $namespace"
install || exit 1

outcome=0
if [ "$wait_ready" = 1 ]; then
    step "Waiting for the model, at most $timeout (large ones load for half an hour)"
    kubectl wait --for=condition=Ready "aimdeployment/$release" -n "$namespace" --timeout="$timeout" || outcome=1
fi

step "What was chosen, and how it stands"
explain
say
if [ "$outcome" = 0 ]; then
    say "Next: kubectl port-forward service/$release-service 8000:8000 -n $namespace"
    say "      curl http://localhost:8000/v1/models"
else
    say "Not ready yet. More: kubectl describe aimdeployment $release -n $namespace; docs/guides/troubleshooting.md"
fi
exit "$outcome"
