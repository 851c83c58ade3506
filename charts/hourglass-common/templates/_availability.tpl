{{- define "hourglass.podDisruptionBudget" -}}
{{- $budget := .Values.podDisruptionBudget -}}
{{- if $budget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "hourglass.fullname" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" . | nindent 4 }}
spec:
  {{- if kindIs "invalid" $budget.minAvailable }}
  maxUnavailable: {{ include "hourglass.countOrPercent" $budget.maxUnavailable }}
  {{- else }}
  minAvailable: {{ include "hourglass.countOrPercent" $budget.minAvailable }}
  {{- end }}
  # A pod that is not ready does not block a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "hourglass.selectorLabels" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{/* Called with a dict: root, kind. */}}
{{- define "hourglass.horizontalPodAutoscaler" -}}
{{- $ := .root -}}
{{- $scaling := $.Values.autoscaling -}}
{{- if $scaling.enabled -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "hourglass.fullname" $ | quote }}
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" $ | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind }}
    name: {{ include "hourglass.fullname" $ | quote }}
  minReplicas: {{ int $scaling.minReplicas }}
  maxReplicas: {{ int $scaling.maxReplicas }}
  metrics:
    {{- with $scaling.targetCPUUtilizationPercentage }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ int . }}
    {{- end }}
    {{- with $scaling.additionalMetrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $scaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Another name than the HorizontalPodAutoscaler: a change of autoscalers creates the new one before it deletes the old. */}}
{{- define "hourglass.scaledObject" -}}
{{- $ := .root -}}
{{- $keda := $.Values.keda -}}
{{- if $keda.enabled -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: '{{ include "hourglass.fullname" $ }}-lag'
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" $ | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind }}
    name: {{ include "hourglass.fullname" $ | quote }}
  minReplicaCount: {{ int $keda.minReplicas }}
  maxReplicaCount: {{ int $keda.maxReplicas }}
  pollingInterval: {{ int $keda.pollingIntervalSeconds }}
  cooldownPeriod: {{ int $keda.cooldownSeconds }}
  {{- with $keda.fallback }}
  fallback:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $keda.behavior }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- toYaml . | nindent 8 }}
  {{- end }}
  triggers:
    - type: prometheus
      metadata:
        serverAddress: {{ tpl (include "hourglass.scalar" $keda.prometheus.serverAddress) $ | quote }}
        query: {{ default (printf "max(hourglass_aggregate_lag{namespace=%q})" $.Release.Namespace) (tpl (include "hourglass.scalar" $keda.prometheus.query) $) | quote }}
        threshold: {{ include "hourglass.scalar" $keda.prometheus.lagPerReplica | quote }}
        # An unknown lag has no series, which is not zero: then the replicas stay, or the fallback applies.
        ignoreNullValues: "false"
        {{- with $keda.prometheus.extraMetadata }}
        {{- include "hourglass.texts" . | nindent 8 }}
        {{- end }}
      {{- with $keda.prometheus.authenticationRef }}
      authenticationRef:
        name: {{ include "hourglass.text" . }}
      {{- end }}
{{- end -}}
{{- end -}}
