{{/* Whether SQLite holds the data, so that there is one process for each service and a volume under it. */}}
{{- define "pyairtable.embedded" -}}
{{- if not (or .Values.database.existingSecret .Values.postgresql.enabled) }}true{{ end }}
{{- end }}

{{- define "pyairtable.controlPlane" -}}
{{- if .Values.operator.enabled -}}
pyairtable-operator.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:18000
{{- end }}
{{- end }}

{{- define "pyairtable.databaseSecret" -}}
{{ .Values.database.existingSecret | default "postgresql" }}
{{- end }}

{{/* The variable with the URL of a service's database. Arguments: `root`, `name`. */}}
{{- define "pyairtable.databaseUrl" -}}
{{- if include "pyairtable.embedded" .root -}}
PYAIRTABLE_DATABASE_URL: sqlite:////var/lib/pyairtable/{{ .name }}.db
{{- else -}}
PYAIRTABLE_DATABASE_URL:
  secretKeyRef: {name: {{ include "pyairtable.databaseSecret" .root }}, key: {{ .name }}}
{{- end }}
{{- end }}

{{/* A service's variables. Arguments: `root`, `name`, `config`. */}}
{{- define "pyairtable.environment" -}}
{{- $values := .root.Values -}}
PYAIRTABLE_ENVIRONMENT: {{ $values.environment }}
PYAIRTABLE_NAMESPACE:
  fieldRef: {fieldPath: metadata.namespace}
PYAIRTABLE_INSTANCE:
  fieldRef: {fieldPath: metadata.name}
PYAIRTABLE_CONTROL_PLANE: {{ include "pyairtable.controlPlane" .root | quote }}
PYAIRTABLE_TRUST_DOMAIN: {{ $values.trustDomain }}
PYAIRTABLE_TOKEN_ISSUER: {{ $values.auth.issuer }}
PYAIRTABLE_TOKEN_AUDIENCE: {{ $values.auth.audience }}
PYAIRTABLE_WORKLOAD_ISSUER: {{ $values.workloads.issuer }}
PYAIRTABLE_WORKLOAD_JWKS: {{ $values.workloads.jwksUrl }}
PYAIRTABLE_WORKLOAD_JWKS_AUTHORITY_FILE: /var/run/secrets/pyairtable/api-server-ca.crt
PYAIRTABLE_WORKLOAD_JWKS_TOKEN_FILE: /var/run/secrets/pyairtable/api-server-token
PYAIRTABLE_WORKLOAD_TOKEN_FILE: /var/run/secrets/pyairtable/token
PYAIRTABLE_MIGRATE: {{ not $values.database.existingSecret }}
{{- if not (include "pyairtable.embedded" .root) }}
{{- /* An upgrade replaces the control plane too: its clients hear of a leaving pod once they have found its new pods. */}}
PYAIRTABLE_REMOVAL_SECONDS: 10
{{- end }}
PYAIRTABLE_LOG_LEVEL: {{ $values.logLevel }}
PYAIRTABLE_TELEMETRY_GRPC: {{ $values.telemetry.grpc }}
PYAIRTABLE_TRACE_SAMPLE_RATIO: {{ $values.telemetry.sampleRatio }}
{{- with $values.telemetry.otlpEndpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . }}
{{- end }}
{{- if include "pyairtable.usersKeys" .root }}
PYAIRTABLE_JWKS: /etc/pyairtable/{{ $values.auth.key }}
{{- end }}
{{- if include "pyairtable.administratorCode" . }}
PYAIRTABLE_FIRST_ADMINISTRATOR_CODE_FILE: /var/run/secrets/first-administrator/{{ $values.firstAdministrator.key }}
{{- end }}
{{ include "pyairtable.databaseUrl" . }}
{{- end }}

{{/* The Secret with the code by which a tenant's first owner is made; only permission gets it. */}}
{{- define "pyairtable.administratorCode" -}}
{{- $code := .root.Values.firstAdministrator -}}
{{- if and $code.enabled (eq .name "permission") -}}
{{ $code.existingSecret | default "first-administrator" }}
{{- end }}
{{- end }}

{{/* The volume source with the keys of people's tokens; nothing without keys. */}}
{{- define "pyairtable.usersKeys" -}}
{{- with .Values.auth -}}
{{- if .existingSecret -}}
secret: {secretName: {{ .existingSecret }}}
{{- else if .existingConfigMap -}}
configMap: {name: {{ .existingConfigMap }}}
{{- else if .jwks -}}
configMap: {name: pyairtable-users-keys}
{{- end }}
{{- end }}
{{- end }}

{{/*
The workload's own token, for peers, and what it needs to read the API server's keys with, by which it verifies theirs.
Every service account may read these (ClusterRole system:service-account-issuer-discovery), and may do nothing else.
*/}}
{{- define "pyairtable.volumes" -}}
- name: identity
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: {{ .root.Values.trustDomain }}, expirationSeconds: 3600}
      - serviceAccountToken: {path: api-server-token, expirationSeconds: 3600}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: api-server-ca.crt}]
{{- with include "pyairtable.usersKeys" .root }}
- name: users-keys
  {{- . | nindent 2 }}
{{- end }}
{{- with include "pyairtable.administratorCode" . }}
- name: first-administrator
  secret: {secretName: {{ . }}}
{{- end }}
{{- if include "pyairtable.embedded" .root }}
- name: data
  persistentVolumeClaim: {claimName: {{ .name }}-data}
{{- end }}
{{- end }}

{{- define "pyairtable.mounts" -}}
- {name: identity, mountPath: /var/run/secrets/pyairtable, readOnly: true}
{{- if include "pyairtable.usersKeys" .root }}
- {name: users-keys, mountPath: /etc/pyairtable, readOnly: true}
{{- end }}
{{- if include "pyairtable.administratorCode" . }}
- {name: first-administrator, mountPath: /var/run/secrets/first-administrator, readOnly: true}
{{- end }}
{{- if include "pyairtable.embedded" .root }}
- {name: data, mountPath: /var/lib/pyairtable}
{{- end }}
{{- end }}

{{/* Only readiness looks at dependencies; liveness asks about the event loop alone. */}}
{{- define "pyairtable.probes" -}}
startupProbe:
  grpc: {port: 50053, service: {{ .config.grpcService }}}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 120
readinessProbe:
  grpc: {port: 50053, service: {{ .config.grpcService }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  grpc: {port: 50053, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{/* The arguments of pyairtable-lib.deployment for a service, as YAML. Arguments: `root`, `name`, `config`. */}}
{{- define "pyairtable.pods" -}}
image: {{ toJson .root.Values.image }}
arguments: [{{ .name }}]
environment:
  {{- include "pyairtable.environment" . | nindent 2 }}
ports: {grpc: 50051, health: 50053, metrics: 9464}
probes:
  {{- include "pyairtable.probes" . | nindent 2 }}
volumes:
  {{- include "pyairtable.volumes" . | nindent 2 }}
mounts:
  {{- include "pyairtable.mounts" . | nindent 2 }}
{{- if include "pyairtable.embedded" .root }}
strategy: {type: Recreate}
{{- else }}
strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
minReadySeconds: 5
{{- end }}
{{- /* NOT_SERVING for PYAIRTABLE_REMOVAL_SECONDS, calls in flight for PYAIRTABLE_DRAIN_SECONDS, then telemetry: 5 s a signal. */}}
graceSeconds: {{ .config.terminationGracePeriodSeconds }}
{{- with .root.Values.auth.jwks }}
annotations: {mesh.pyairtable.io/users-keys-checksum: {{ sha256sum . }}}
{{- end }}
apiAccess: false
readOnlyRootFilesystem: {{ .config.readOnlyRootFilesystem }}
{{- end }}

{{/* Services that call this one, as a JSON list with the test's pod. Arguments: `root`, `name`. */}}
{{- define "pyairtable.callers" -}}
{{- $callers := list "mesh-test" }}
{{- range $name, $service := .root.Values.services }}
{{- if has $.name $service.calls }}
{{- $callers = append $callers $name }}
{{- end }}
{{- end }}
{{- toJson $callers }}
{{- end }}
