{{/* Names, labels and small decisions that several templates share. */}}

{{- define "aim.operatorName" -}}{{ .Release.Name }}-operator{{- end -}}
{{- define "aim.validatorName" -}}{{ .Release.Name }}-recipe-validator{{- end -}}
{{- define "aim.selectorName" -}}{{ .Release.Name }}-recipe-selector{{- end -}}
{{- define "aim.decisionName" -}}{{ .Release.Name }}-recipe-config{{- end -}}
{{- define "aim.configName" -}}{{ .Release.Name }}-operator-config{{- end -}}

{{- define "aim.checkName" -}}
{{- if or (gt (len .Release.Name) 46) (not (regexMatch "^[a-z][-a-z0-9]*$" .Release.Name)) -}}
{{- fail (printf "\n\nThe release's name %q is no name for its Services: it must begin with a letter, have only lower-case letters, digits and hyphens, and at most 46 characters." .Release.Name) -}}
{{- end -}}
{{- end -}}

{{- define "aim.labels" -}}
app.kubernetes.io/name: aim-engine
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "aim.selectorLabels" -}}
app.kubernetes.io/name: aim-engine
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "aim.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- if .Values.global.imageRegistry -}}{{- $name = printf "%s/%s" .Values.global.imageRegistry $name -}}{{- end -}}
{{- if $image.digest -}}{{ $name }}@{{ $image.digest }}{{- else -}}{{ $name }}:{{ $image.tag | default .Chart.AppVersion }}{{- end -}}
{{- end -}}

{{- define "aim.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where the chart's own pods run: the hooks too, or nothing could be installed where every node is tainted. */}}
{{- define "aim.placement" -}}
{{- with .Values.operator.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "aim.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "aim.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "aim.logLevel" -}}
{{- if .Values.aim_engine.debug -}}DEBUG{{- else -}}{{ .Values.aim_engine.log_level | default "INFO" | upper }}{{- end -}}
{{- end -}}

{{/*
The operators of the cluster as JSON: whether one is this release's own, and those of others with the namespaces they serve (none: all). Looked
for once a render: it takes a list of every Deployment.
*/}}
{{- define "aim.operators" -}}
{{- if not (hasKey .Release "aimOperators") -}}
{{- $own := false -}}
{{- $others := list -}}
{{- range (lookup "apps/v1" "Deployment" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- if and (eq (get $labels "app.kubernetes.io/name") "aim-engine") (eq (get $labels "app.kubernetes.io/component") "operator") -}}
{{- $release := printf "%s/%s" .metadata.namespace (get $labels "app.kubernetes.io/instance") -}}
{{- $serves := get (.metadata.annotations | default dict) "aim.engine.amd.com/serves" | splitList "," | compact -}}
{{- if eq $release (printf "%s/%s" $.Release.Namespace $.Release.Name) -}}{{- $own = true -}}
{{- else -}}{{- $others = append $others (dict "release" $release "serves" $serves) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set .Release "aimOperators" (dict "own" $own "others" $others) -}}
{{- end -}}
{{- .Release.aimOperators | toJson -}}
{{- end -}}

{{/* The operator that serves this namespace and belongs to another release, as "namespace/release"; empty where there is none. */}}
{{- define "aim.otherOperator" -}}
{{- $found := "" -}}
{{- range (include "aim.operators" . | fromJson).others -}}
{{- if or (not .serves) (has $.Release.Namespace .serves) -}}{{- $found = .release -}}{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* "true" where this release brings the operator: also where another one came later, for its own would go with the upgrade. */}}
{{- define "aim.ownsOperator" -}}
{{- if eq .Values.operator.mode "always" -}}true
{{- else if eq .Values.operator.mode "auto" -}}
{{- if or (include "aim.operators" . | fromJson).own (not (include "aim.otherOperator" .)) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Refuses to bring, unasked, an operator that would serve namespaces that another one serves already. */}}
{{- define "aim.checkOperators" -}}
{{- $operators := include "aim.operators" . | fromJson -}}
{{- if and (eq .Values.operator.mode "auto") (include "aim.ownsOperator" .) (not $operators.own) -}}
{{- range $operators.others -}}
{{- $serves := .serves -}}
{{- $both := list -}}
{{- range $.Values.watchNamespaces -}}{{- if has . $serves -}}{{- $both = append $both . -}}{{- end -}}{{- end -}}
{{- if not $.Values.watchNamespaces -}}{{- $both = $serves -}}{{- end -}}
{{- if $both -}}
{{- fail (printf "\n\nThe operator of release %s serves %s, and not this namespace, %s; one that this release brings would serve %s too.\nSet watchNamespaces={%s} for an operator of its own, or let %s serve this namespace, by its watchNamespaces." .release (join ", " .serves) $.Release.Namespace (join ", " $both) $.Release.Namespace .release) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" where this release brings the validator. */}}
{{- define "aim.ownsValidator" -}}
{{- if and .Values.admission_controller.enabled (include "aim.ownsOperator" .) -}}true{{- end -}}
{{- end -}}
