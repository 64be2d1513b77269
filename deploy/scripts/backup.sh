#!/usr/bin/env bash
# Writes what is needed to bring AIM Engine's deployments back, here or in another cluster, into a directory of plain files:
# values of the releases and their AIMDeployments, recorded decisions, recipes of your own, and AIMDeployments of no release.
# Secrets and weights are not in it; secrets.txt lists the Secrets that deployments name.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: backup.sh [--namespace NAME] [--output DIRECTORY]

  --namespace NAME    this namespace only                    (all)
  --output DIRECTORY  where to write; must not exist yet     (aim-engine-backup-TIME)
  -h, --help          this text

restore.sh reads the directory.
TEXT
}

wrong() {
    printf '%s\n' "$*" >&2
    exit 2
}

group=aim.engine.amd.com
scope=(--all-namespaces)
output="aim-engine-backup-$(date -u +%Y%m%dT%H%M%SZ)"
while [ $# -gt 0 ]; do
    case "$1" in
        --namespace | --output)
            [ $# -ge 2 ] || wrong "$1 needs a value; see --help"
            case "$1" in
                --namespace) scope=(--namespace "$2") ;;
                --output) output="$2" ;;
            esac
            shift 2
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) wrong "unknown argument '$1'; see --help" ;;
    esac
done
for program in kubectl helm; do
    command -v "$program" >/dev/null || wrong "$program is not on PATH; install it"
done
[ ! -e "$output" ] || wrong "$output is there already; name another directory, or remove it"

# What the API server adds to an object and a new one must not have.
readonly BARE='{"metadata":{"uid":null,"resourceVersion":null,"creationTimestamp":null,"generation":null,"managedFields":null,"ownerReferences":null,"annotations":{"kubectl.kubernetes.io/last-applied-configuration":null}},"status":null}'

# kind namespace name (namespace - for cluster-scoped kinds): appends the object, without what the server added, to a file.
save() {
    local file="$1" kind="$2" where="$3" name="$4" words=()
    [ "$where" = - ] || words=(--namespace "$where")
    {
        printf -- '---\n'
        kubectl get "$kind" "$name" ${words[@]+"${words[@]}"} -o json |
            kubectl patch --local -f - --type=merge -p "$BARE" -o yaml
    } >>"$file"
}

mkdir -p "$output/releases"
chmod 700 "$output"
: >"$output/configmaps.yaml"
: >"$output/aimrecipes.yaml"
: >"$output/aimdeployments.yaml"
: >"$output/releases.txt"
: >"$output/secrets.txt"

deployments="$(kubectl get "aimdeployments.$group" "${scope[@]}" -o go-template='{{range .items}}{{.metadata.namespace}} {{.metadata.name}} {{with .metadata.annotations}}{{if index . "aim.engine.amd.com/chart-spec"}}{{with index . "meta.helm.sh/release-name"}}{{.}}{{else}}-{{end}}{{else}}-{{end}}{{else}}-{{end}} {{with .spec.recipe}}{{with .configMap}}{{.}}{{else}}-{{end}}{{else}}-{{end}} {{with .spec.model}}{{with .tokenSecret}}{{.name}}{{else}}-{{end}}{{else}}-{{end}} {{with .spec.service}}{{with .apiKeySecret}}{{.name}}{{else}}-{{end}}{{else}}-{{end}}{{"\n"}}{{end}}')"
owner="$(kubectl get deployments "${scope[@]}" -l app.kubernetes.io/name=aim-engine,app.kubernetes.io/component=operator,app.kubernetes.io/managed-by=Helm \
    -o 'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.labels.app\.kubernetes\.io/instance}{"\n"}{end}')"

# Releases, the one that brings the operator first: the others need it.
{
    printf '%s\n' "$owner"
    awk '$3 != "-" {print $1, $3}' <<<"$deployments" | sort
} | awk 'NF && !seen[$0]++' >"$output/releases.txt"
while read -r namespace release; do
    mkdir -p "$output/releases/$namespace"
    helm get values "$release" --namespace "$namespace" --output yaml >"$output/releases/$namespace/$release.yaml"
done <"$output/releases.txt"

# Of a release too: what earlier values asked for, and helm's values of today no longer say, stands in its AIMDeployment alone.
while read -r namespace name release _; do
    [ -n "$namespace" ] || continue
    file="$output/aimdeployments.yaml"
    [ "$release" = - ] || file="$output/releases/$namespace/$release.aimdeployment.yaml"
    save "$file" "aimdeployments.$group" "$namespace" "$name"
done <<<"$deployments"

# ConfigMaps: recorded decisions, recipes with the label, and recipes that are only named.
{
    kubectl get configmaps "${scope[@]}" -l "$group/recipe in (true,decision)" -o 'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}'
    awk '$4 != "-" && NF {print $1, $4}' <<<"$deployments"
} | sort -u | while read -r namespace name; do
    if [ -z "$namespace" ]; then continue; fi
    if kubectl get configmap "$name" --namespace "$namespace" >/dev/null 2>&1; then
        save "$output/configmaps.yaml" configmap "$namespace" "$name"
    else
        printf 'ConfigMap %s/%s is named by a deployment and is not there\n' "$namespace" "$name" >&2
    fi
done

# Recipes that the image does not bring, or that somebody edited here.
kubectl get "aimrecipes.$group" --show-managed-fields \
    -o go-template="{{range .items}}{{.metadata.name}} {{with .metadata.labels}}{{with index . \"$group/catalogue-version\"}}shipped{{else}}own{{end}}{{else}}own{{end}}{{range .metadata.managedFields}}{{if not .subresource}} {{.manager}}{{end}}{{end}}{{\"\\n\"}}{{end}}" |
    awk '{own = $2 == "own"; for (i = 3; i <= NF; i++) if ($i != "aim-engine-catalogue") own = 1; if (own) print $1}' |
    while read -r name; do save "$output/aimrecipes.yaml" "aimrecipes.$group" - "$name"; done

awk '{if ($5 != "-" && $5 != "") print $1 "/" $5; if ($6 != "-" && $6 != "") print $1 "/" $6}' <<<"$deployments" | sort -u >"$output/secrets.txt"

count() { grep -c '^kind:' "$1" || true; }
printf '%s\n' "$output:" \
    "  $(wc -l <"$output/releases.txt" | tr -d ' ') releases with their values" \
    "  $(count "$output/configmaps.yaml") ConfigMaps (recorded decisions and recipes)" \
    "  $(count "$output/aimrecipes.yaml") AIMRecipes of your own" \
    "  $(count "$output/aimdeployments.yaml") AIMDeployments of no release"
[ ! -s "$output/secrets.txt" ] || printf '  not in it, and needed: Secrets %s\n' "$(paste -sd ' ' "$output/secrets.txt")"
