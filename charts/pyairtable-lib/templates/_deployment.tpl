{{/*
A Deployment. Arguments, besides `root` and `name`:

image               dict with repository, tag and pullPolicy
config              the workload's values: replicas, autoscaling, resources, placement, podLabels, podAnnotations
arguments           list, may be empty
environment         dict, see pyairtable-lib.environment
ports               dict of names and numbers
probes              dict of startupProbe, readinessProbe, livenessProbe
volumes             list of volumes
mounts              list of volumeMounts
strategy            dict
minReadySeconds     how long a new pod must have been ready before the next old one goes; 0 where it is left out
graceSeconds        terminationGracePeriodSeconds
annotations         dict of pods' annotations, may be left out: checksums of what must not change under a running pod
apiAccess           whether the pod gets a token for the API server where Kubernetes puts it
readOnlyRootFilesystem
*/}}
{{- define "pyairtable-lib.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "pyairtable-lib.metadata" . | nindent 2 }}
spec:
  {{- if not .config.autoscaling.enabled }}
  replicas: {{ .config.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  {{- with .minReadySeconds }}
  minReadySeconds: {{ . }}
  {{- end }}
  strategy: {{ toJson .strategy }}
  selector:
    matchLabels:
      {{- include "pyairtable-lib.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "pyairtable-lib.podLabels" . | nindent 8 }}
        {{- with .config.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .name }}
        {{- with .annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with .config.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ .name }}
      automountServiceAccountToken: {{ .apiAccess }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .graceSeconds }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      securityContext:
        {{- include "pyairtable-lib.podSecurityContext" . | nindent 8 }}
      topologySpreadConstraints:
        {{- include "pyairtable-lib.topologySpread" . | nindent 8 }}
      {{- include "pyairtable-lib.placement" . | nindent 6 }}
      {{- if not .config.affinity }}
      affinity:
        {{- include "pyairtable-lib.zoneSpread" . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ include "pyairtable-lib.image" . }}
          imagePullPolicy: {{ .image.pullPolicy }}
          {{- with .arguments }}
          args: {{ toJson . }}
          {{- end }}
          env:
            {{- include "pyairtable-lib.environment" .environment | nindent 12 }}
          ports:
            {{- range $name, $number := .ports }}
            - name: {{ $name }}
              containerPort: {{ $number }}
            {{- end }}
          {{- toYaml .probes | nindent 10 }}
          resources: {{ toJson .config.resources }}
          securityContext:
            {{- include "pyairtable-lib.securityContext" . | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}
