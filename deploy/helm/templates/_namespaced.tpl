{{/* Install mode `watchNamespaces`: what would be cluster-wide rights are Roles in these namespaces. */}}

{{/* A Role with its binding in every watched namespace. Takes root, name, account, labels, rules and optionally annotations (YAML) and readsLabels. */}}
{{- define "aim.namespacedRoles" -}}
{{- $this := . }}
{{- range .root.Values.watchNamespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $this.name }}
  namespace: {{ . }}
  labels: {{- $this.labels | nindent 4 }}
  {{- with $this.annotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
rules:
  {{- if $this.readsLabels }}
  # Labels of the namespace: whether models may bring code, and which recipes it may use.
  - apiGroups: [""]
    resources: [namespaces]
    verbs: [get]
  {{- end }}
  {{- $this.rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $this.name }}
  namespace: {{ . }}
  labels: {{- $this.labels | nindent 4 }}
  {{- with $this.annotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $this.name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $this.account }}, namespace: {{ $this.root.Release.Namespace }}}
{{- end }}
{{- end -}}

{{- define "aim.checkNamespaces" -}}
{{- with .Values.watchNamespaces }}
{{- if not (has $.Release.Namespace .) }}
{{- fail (printf "watchNamespaces %s must name %s too: the AIMDeployment of this release is there, and nobody would serve it" (toJson .) $.Release.Namespace) }}
{{- end }}
{{- end }}
{{- end -}}
