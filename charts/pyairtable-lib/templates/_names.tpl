{{/*
Arguments of the templates here: a dict with `root` (the chart's context) and `name` (the workload's name).
*/}}

{{- define "pyairtable-lib.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "pyairtable-lib.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{ include "pyairtable-lib.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pyairtable-mesh
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* Of pods; without the chart's version, which would replace them without need. */}}
{{- define "pyairtable-lib.podLabels" -}}
{{ include "pyairtable-lib.selector" . }}
app.kubernetes.io/part-of: pyairtable-mesh
{{- end }}

{{- define "pyairtable-lib.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "pyairtable-lib.labels" . | nindent 2 }}
{{- end }}

{{/* The image of a dict with `repository` and `tag`; without a tag, that of this release of the chart. */}}
{{- define "pyairtable-lib.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}
