{{/* The web page has its own port beside the metrics. */}}
{{- define "averages-consumer.ports" -}}
{{- if .Values.config.web -}}
- name: page
  containerPort: {{ int .Values.config.webPort }}
{{- end -}}
{{- end -}}

{{- define "averages-consumer.ingress" -}}
{{- if .Values.config.web -}}
- ports:
    - port: page
      protocol: TCP
  {{- with .Values.networkPolicy.pageFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "averages-consumer.pageName" -}}
{{ include "hourglass.fullname" . }}-page
{{- end -}}
