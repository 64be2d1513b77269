{{/* Names, labels and small decisions that several templates share. */}}

{{- define "aim.operatorName" -}}{{ .Release.Name }}-operator{{- end -}}
{{- define "aim.validatorName" -}}{{ .Release.Name }}-recipe-validator{{- end -}}
{{- define "aim.selectorName" -}}{{ .Release.Name }}-recipe-selector{{- end -}}
{{- define "aim.decisionName" -}}{{ .Release.Name }}-recipe-config{{- end -}}
{{- define "aim.configName" -}}{{ .Release.Name }}-operator-config{{- end -}}

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
{{- if .Values.aim_engine.debug -}}DEBUG{{- else -}}{{ .Values.aim_engine.log_level | upper }}{{- end -}}
{{- end -}}

{{/* The operator that serves this cluster and belongs to another release, as "namespace/release"; empty where there is none. */}}
{{- define "aim.otherOperator" -}}
{{- $found := "" -}}
{{- range (lookup "apps/v1" "Deployment" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- if and (eq (get $labels "app.kubernetes.io/name") "aim-engine") (eq (get $labels "app.kubernetes.io/component") "operator") -}}
{{- $owner := printf "%s/%s" .metadata.namespace (get $labels "app.kubernetes.io/instance") -}}
{{- if ne $owner (printf "%s/%s" $.Release.Namespace $.Release.Name) -}}{{- $found = $owner -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* "true" where this release brings the operator. */}}
{{- define "aim.ownsOperator" -}}
{{- if eq .Values.operator.mode "always" -}}true
{{- else if eq .Values.operator.mode "auto" -}}{{- if not (include "aim.otherOperator" .) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" where this release brings the validator. */}}
{{- define "aim.ownsValidator" -}}
{{- if and .Values.admission_controller.enabled (include "aim.ownsOperator" .) -}}true{{- end -}}
{{- end -}}
