{{- define "pyairtable-operator.environment" -}}
PYAIRTABLE_OPERATOR_PROVIDER: kubernetes
PYAIRTABLE_OPERATOR_HOST: 0.0.0.0
PYAIRTABLE_OPERATOR_PORT: 18000
PYAIRTABLE_OPERATOR_NAMESPACE_SELECTOR: {{ .Values.namespaceSelector }}
PYAIRTABLE_OPERATOR_HOME_NAMESPACE:
  fieldRef: {fieldPath: metadata.namespace}
PYAIRTABLE_OPERATOR_TRUST_DOMAIN: {{ .Values.trustDomain }}
PYAIRTABLE_OPERATOR_METRICS_PORT: 9464
PYAIRTABLE_OPERATOR_LEASE_NAMESPACE:
  fieldRef: {fieldPath: metadata.namespace}
PYAIRTABLE_OPERATOR_IDENTITY:
  fieldRef: {fieldPath: metadata.name}
PYAIRTABLE_OPERATOR_CLUSTER_DOMAIN: {{ .Values.clusterDomain }}
PYAIRTABLE_OPERATOR_LOG_LEVEL: {{ .Values.logLevel }}
{{- end }}

{{/*
The arguments of pyairtable-lib.deployment, as YAML. It is ready when it has read the cluster, and alive without: an API
server that is away restarts nothing.
*/}}
{{- define "pyairtable-operator.pods" -}}
image: {{ toJson .Values.image }}
arguments: []
ports: {grpc: 18000, metrics: 9464}
probes:
  startupProbe:
    grpc: {port: 18000, service: pyairtable.mesh.v1.StatusService}
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: 300
  readinessProbe:
    grpc: {port: 18000, service: pyairtable.mesh.v1.StatusService}
    periodSeconds: 2
    timeoutSeconds: 2
    failureThreshold: 2
  livenessProbe:
    grpc: {port: 18000, service: liveness}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 3
volumes: []
mounts: []
strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
graceSeconds: 15
apiAccess: true
readOnlyRootFilesystem: {{ .Values.readOnlyRootFilesystem }}
{{- end }}

{{/* Any pod of the cluster may ask: who gets what is decided by the control plane, which holds its word against its address. */}}
{{- define "pyairtable-operator.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "pyairtable-lib.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "pyairtable-lib.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - namespaceSelector: {}
      ports:
        - {port: 18000, protocol: TCP}
    {{- with .config.networkPolicy.scrapers }}
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - {port: 9464, protocol: TCP}
    {{- end }}
  egress:
    {{- include "pyairtable-lib.clusterEgress" . | nindent 4 }}
{{- end }}
