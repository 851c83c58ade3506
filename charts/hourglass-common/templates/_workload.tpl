{{/*
The service's pods. Called with a dict:
  root          the chart
  kind          Deployment or StatefulSet
  strategy      how a Deployment is updated, if the values do not set it
  env, ports, volumes, volumeMounts   YAML lists of this service
*/}}
{{- define "hourglass.workload" -}}
{{- $ := .root -}}
{{- include "hourglass.checks" $ -}}
apiVersion: apps/v1
kind: {{ .kind }}
metadata:
  name: {{ include "hourglass.fullname" $ | quote }}
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" $ | nindent 4 }}
spec:
  {{- include "hourglass.replicas" $ | nindent 2 }}
  selector:
    matchLabels:
      {{- include "hourglass.selectorLabels" $ | nindent 6 }}
  {{- if eq .kind "StatefulSet" }}
  serviceName: {{ include "hourglass.fullname" $ | quote }}
  podManagementPolicy: Parallel
  {{- with $.Values.updateStrategy }}
  updateStrategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- else }}
  {{- with default .strategy $.Values.updateStrategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  revisionHistoryLimit: {{ int $.Values.revisionHistoryLimit }}
  template:
    {{- include "hourglass.pod" . | nindent 4 }}
{{- end -}}

{{/* Omitted where an autoscaler sets the number, or kubectl scale (replicaCount: null). */}}
{{- define "hourglass.replicas" -}}
{{- $scaled := or (.Values.autoscaling).enabled (.Values.keda).enabled -}}
{{- if not (or $scaled (kindIs "invalid" .Values.replicaCount)) -}}
replicas: {{ int .Values.replicaCount }}
{{- end -}}
{{- end -}}
