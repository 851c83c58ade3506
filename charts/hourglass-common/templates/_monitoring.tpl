{{- define "hourglass.scrape" -}}
- port: http
  path: /metrics
  interval: {{ include "hourglass.text" .interval }}
  {{- with .scrapeTimeout }}
  scrapeTimeout: {{ include "hourglass.text" . }}
  {{- end }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "hourglass.podMonitor" -}}
{{- $monitor := .Values.podMonitor -}}
{{- if $monitor.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ include "hourglass.fullname" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" . | nindent 4 }}
    {{- with $monitor.labels }}
    {{- include "hourglass.texts" . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "hourglass.selectorLabels" . | nindent 6 }}
  podTargetLabels:
    - app.kubernetes.io/instance
  podMetricsEndpoints:
    {{- include "hourglass.scrape" $monitor | nindent 4 }}
{{- end -}}
{{- end -}}

{{- define "hourglass.serviceMonitor" -}}
{{- $monitor := .Values.serviceMonitor -}}
{{- if $monitor.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "hourglass.fullname" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" . | nindent 4 }}
    {{- with $monitor.labels }}
    {{- include "hourglass.texts" . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "hourglass.selectorLabels" . | nindent 6 }}
  targetLabels:
    - app.kubernetes.io/instance
  endpoints:
    {{- include "hourglass.scrape" $monitor | nindent 4 }}
{{- end -}}
{{- end -}}

{{/*
The rules of files/recording.yaml, if there are any, and the alerts of files/alerts.yaml. They are not Helm templates,
because their annotations are Prometheus templates; NAMESPACE in them is replaced by the release's namespace, RUNBOOKS by
the address of the runbooks.
*/}}
{{- define "hourglass.prometheusRule" -}}
{{- $rule := .Values.prometheusRule -}}
{{- if $rule.enabled -}}
{{- $rules := list -}}
{{- range .Files.Get "files/recording.yaml" | replace "NAMESPACE" .Release.Namespace | fromYamlArray -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- range .Files.Get "files/alerts.yaml" | replace "NAMESPACE" .Release.Namespace | replace "RUNBOOKS" (include "hourglass.scalar" $rule.runbooks | trimSuffix "/") | fromYamlArray -}}
{{- if not (has .alert $rule.disabled) -}}
{{- $labels := merge (include "hourglass.texts" $rule.alertLabels | fromYaml) .labels (dict "namespace" $.Release.Namespace) -}}
{{- $rules = append $rules (merge (dict "labels" $labels) .) -}}
{{- end -}}
{{- end -}}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ include "hourglass.fullname" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" . | nindent 4 }}
    {{- with $rule.labels }}
    {{- include "hourglass.texts" . | nindent 4 }}
    {{- end }}
spec:
  groups:
    - name: {{ include "hourglass.fullname" . | quote }}
      rules:
        {{- toYaml (concat $rules $rule.extraRules) | nindent 8 }}
{{- end -}}
{{- end -}}

{{/*
A ConfigMap for each dashboard in files/dashboards, unchanged except for the address of the runbooks: legends contain
braces, so they are not Helm templates.
*/}}
{{- define "hourglass.dashboards" -}}
{{- $dashboard := .Values.dashboard -}}
{{- if $dashboard.enabled -}}
{{- range $path, $content := .Files.Glob "files/dashboards/*.json" }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ printf "%s-%s" (include "hourglass.fullname" $) (base $path | trimSuffix ".json") | quote }}
  namespace: {{ include "hourglass.scalar" $dashboard.namespace | default $.Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" $ | nindent 4 }}
    {{- include "hourglass.texts" $dashboard.labels | nindent 4 }}
  {{- with $dashboard.annotations }}
  annotations:
    {{- include "hourglass.texts" . | nindent 4 }}
  {{- end }}
data:
  {{ base $path }}: |
    {{- toString $content | replace "docs/runbooks" (include "hourglass.scalar" $dashboard.runbooks | trimSuffix "/") | nindent 4 }}
{{- end }}
{{- end -}}
{{- end -}}
