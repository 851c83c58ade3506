{{/* A headless Service: for the names of a StatefulSet's pods, port-forwarding and a ServiceMonitor. */}}
{{- define "hourglass.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "hourglass.fullname" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" . | nindent 4 }}
spec:
  clusterIP: None
  selector:
    {{- include "hourglass.selectorLabels" . | nindent 4 }}
  ports:
    - name: http
      port: {{ int .Values.config.httpPort }}
      targetPort: http
{{- end -}}

{{/* Port of a host:port. */}}
{{- define "hourglass.portOf" -}}
{{- regexFind "[0-9]+$" . | default "6379" -}}
{{- end -}}

{{/* `from` of a rule: all, or the given peers and the pod of `helm test`. Called with a dict: root, peers. */}}
{{- define "hourglass.admitted" -}}
{{- with .peers -}}
from:
  {{- toYaml . | nindent 2 }}
  - podSelector:
      matchLabels:
        {{- include "hourglass.testSelectorLabels" $.root | nindent 8 }}
{{- end -}}
{{- end -}}

{{/*
Ingress: metrics. Egress: DNS and Redis. Additional rules of the service: `ingress`, `egress`, as YAML lists.
Called with a dict: root, ingress, egress.
*/}}
{{- define "hourglass.networkPolicy" -}}
{{- $ := .root -}}
{{- $policy := $.Values.networkPolicy -}}
{{- if $policy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "hourglass.fullname" $ | quote }}
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" $ | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "hourglass.selectorLabels" $ | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - port: http
          protocol: TCP
      {{- include "hourglass.admitted" (dict "root" $ "peers" $policy.metricsFrom) | nindent 6 }}
    {{- with .ingress }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $policy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  egress:
    - ports:
        - port: 53
          protocol: UDP
        - port: 53
          protocol: TCP
    {{- $ports := list }}
    {{- range $.Values.redis.urls }}
    {{- $ports = append $ports (include "hourglass.portOf" .) }}
    {{- end }}
    {{- range $policy.redisPorts }}
    {{- $ports = append $ports (int . | toString) }}
    {{- end }}
    - ports:
        {{- range $ports | uniq }}
        - port: {{ int . }}
          protocol: TCP
        {{- end }}
      {{- with $policy.redisTo }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with .egress }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $.Values.tracing.endpoint }}
    {{- $default := ternary "443" "80" (hasPrefix "https:" .) }}
    - ports:
        - port: {{ regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" | default $default }}
          protocol: TCP
    {{- end }}
    {{- with $policy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}
