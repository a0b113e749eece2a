{{- define "pyairtable.volumeClaim" -}}
{{- $persistence := .root.Values.persistence -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "pyairtable-lib.metadata" (dict "root" .root "name" (printf "%s-data" .name)) | nindent 2 }}
  {{- if $persistence.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with $persistence.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ $persistence.size }}
{{- end }}

{{/* Who may reach a service, and whom it may reach. The kubelet's probes and port-forwards come from the node. */}}
{{- define "pyairtable.networkPolicy" -}}
{{- $values := .root.Values -}}
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
        - {{- include "pyairtable-lib.peer" (dict "root" .root "names" (include "pyairtable.callers" . | fromJsonArray)) | nindent 10 }}
        {{- with $values.networkPolicy.callers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {port: 50051, protocol: TCP}
    {{- with $values.networkPolicy.scrapers }}
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - {port: 9464, protocol: TCP}
    {{- end }}
  egress:
    {{- include "pyairtable-lib.clusterEgress" . | nindent 4 }}
    {{- with .config.calls }}
    - to:
        - {{- include "pyairtable-lib.peer" (dict "root" $.root "names" .) | nindent 10 }}
      ports:
        - {port: 50051, protocol: TCP}
    {{- end }}
    {{- if $values.operator.enabled }}
    - to:
        - {{- include "pyairtable-lib.peer" (dict "root" .root "names" (list "pyairtable-operator")) | nindent 10 }}
      ports:
        - {port: 18000, protocol: TCP}
    {{- end }}
    {{- if $values.database.existingSecret }}
    - ports:
        - {port: 5432, protocol: TCP}
    {{- else if $values.postgresql.enabled }}
    - to:
        - {{- include "pyairtable-lib.peer" (dict "root" .root "names" (list "postgresql")) | nindent 10 }}
      ports:
        - {port: 5432, protocol: TCP}
    {{- end }}
    {{- with $values.telemetry.otlpEndpoint }}
    - ports:
        - {port: {{ regexFind "[0-9]+/?$" . | trimSuffix "/" | default "4317" }}, protocol: TCP}
    {{- end }}
{{- end }}

{{/* Brings a service's database up to date, before pods are replaced: when it fails, nothing has changed yet. */}}
{{- define "pyairtable.migration" -}}
{{- $values := .root.Values -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "pyairtable-lib.metadata" (dict "root" .root "name" (printf "%s-migration" .name)) | nindent 2 }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 3
  activeDeadlineSeconds: 600
  template:
    metadata:
      labels:
        {{- include "pyairtable-lib.podLabels" (dict "root" .root "name" (printf "%s-migration" .name)) | nindent 8 }}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $values.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      securityContext:
        {{- include "pyairtable-lib.podSecurityContext" . | nindent 8 }}
      {{- include "pyairtable-lib.placement" . | nindent 6 }}
      containers:
        - name: migration
          image: {{ include "pyairtable-lib.image" (dict "root" .root "image" $values.image) }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args: [{{ .name }}, migrate]
          env:
            {{- include "pyairtable-lib.environment" (include "pyairtable.databaseUrl" . | fromYaml) | nindent 12 }}
          resources: {{ toJson .config.resources }}
          securityContext:
            {{- include "pyairtable-lib.securityContext" .config | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: tmp
          emptyDir: {}
{{- end }}
