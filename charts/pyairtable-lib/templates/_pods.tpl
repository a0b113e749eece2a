{{/* What the restricted pod security standard demands of a pod. */}}
{{- define "pyairtable-lib.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What it demands of a container, and a root filesystem that nothing writes to. */}}
{{- define "pyairtable-lib.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: {{ .readOnlyRootFilesystem }}
{{- end }}

{{/* Environment variables of a dict: a text, a number or a truth value, or a dict that is a `valueFrom`. */}}
{{- define "pyairtable-lib.environment" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  valueFrom: {{ toJson $value }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
Replicas of a release apart from each other, where there is room. Zones are an affinity's matter (below): the scheduler
leaves out of its scores every node that lacks one of the keys named here, and many clusters have no zones.
*/}}
{{- define "pyairtable-lib.topologySpread" -}}
- topologyKey: kubernetes.io/hostname
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "pyairtable-lib.selector" . | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}

{{/* The affinity of replicas that has them in different zones, where there are some. */}}
{{- define "pyairtable-lib.zoneSpread" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        labelSelector:
          matchLabels:
            {{- include "pyairtable-lib.selector" . | nindent 12 }}
{{- end }}

{{/* Where a pod may be put: nodeSelector, tolerations and affinity of `config`, each where it is set. */}}
{{- define "pyairtable-lib.placement" -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $.config $field }}
{{ $field }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}
