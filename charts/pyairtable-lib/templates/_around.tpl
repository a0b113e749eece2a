{{/* What stands around a workload's pods. Arguments: `root`, `name`, and `config`, the workload's values. */}}

{{- define "pyairtable-lib.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "pyairtable-lib.metadata" . | nindent 2 }}
automountServiceAccountToken: false
{{- end }}

{{/* `port`: where gRPC is served; the control plane finds the Service by its appProtocol. */}}
{{- define "pyairtable-lib.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "pyairtable-lib.metadata" . | nindent 2 }}
spec:
  selector:
    {{- include "pyairtable-lib.selector" . | nindent 4 }}
  ports:
    - name: grpc
      port: {{ .port }}
      targetPort: grpc
      appProtocol: kubernetes.io/h2c
{{- end }}

{{- define "pyairtable-lib.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "pyairtable-lib.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "pyairtable-lib.selector" . | nindent 6 }}
{{- end }}

{{- define "pyairtable-lib.autoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "pyairtable-lib.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicas: {{ .config.autoscaling.minReplicas }}
  maxReplicas: {{ .config.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .config.autoscaling.targetCPUUtilizationPercentage }}
{{- end }}

{{/* Pods of this release, as a peer of a NetworkPolicy. Arguments: `root`, and `names`, a list of workloads. */}}
{{- define "pyairtable-lib.peer" -}}
podSelector:
  matchLabels:
    app.kubernetes.io/instance: {{ .root.Release.Name }}
  matchExpressions:
    - key: app.kubernetes.io/name
      operator: In
      values: {{ toJson .names }}
{{- end }}

{{/* Egress to the cluster's DNS. */}}
{{- define "pyairtable-lib.dnsEgress" -}}
- to:
    - namespaceSelector: {}
      podSelector:
        matchLabels:
          k8s-app: kube-dns
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{/* Egress to that, and to the API server, whose pods and addresses no policy can name. */}}
{{- define "pyairtable-lib.clusterEgress" -}}
{{ include "pyairtable-lib.dnsEgress" . }}
- ports:
    - {port: 443, protocol: TCP}
    - {port: 6443, protocol: TCP}
{{- end }}
