
{{/* Each option of .Values.config is the service's environment variable of the same name: periodS is HOURGLASS_PERIOD_S. */}}
{{- define "hourglass.configData" -}}
HOURGLASS_REDIS_URL: {{ printf "%s://%s" (ternary "rediss" "redis" .Values.redis.tls.enabled) (join "," .Values.redis.urls) | quote }}
{{- range $key, $value := .Values.config }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
HOURGLASS_{{ $key | snakecase | upper }}: {{ include "hourglass.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- with .Values.tracing.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- with .Values.redis.tls }}
{{- if and .enabled .existingSecret }}
{{- if .caKey }}
HOURGLASS_REDIS_CA_FILE: '{{ include "hourglass.redisTlsFolder" $ }}/ca.crt'
{{- end }}
{{- if .certKey }}
HOURGLASS_REDIS_CERT_FILE: '{{ include "hourglass.redisTlsFolder" $ }}/tls.crt'
HOURGLASS_REDIS_KEY_FILE: '{{ include "hourglass.redisTlsFolder" $ }}/tls.key'
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "hourglass.redisTlsFolder" -}}/etc/hourglass/redis-tls{{- end -}}

{{- define "hourglass.config" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "hourglass.fullname" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" . | nindent 4 }}
data:
  {{- include "hourglass.configData" . | nindent 2 }}
{{- end -}}

{{/* Variables that differ between pods or come from a Secret. */}}
{{- define "hourglass.env" -}}
- name: HOURGLASS_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- with .Values.redis }}
{{- if .existingSecret }}
- name: HOURGLASS_REDIS_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ include "hourglass.text" .existingSecret }}
      key: {{ include "hourglass.text" .usernameKey }}
      optional: true
- name: HOURGLASS_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "hourglass.text" .existingSecret }}
      key: {{ include "hourglass.text" .passwordKey }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "hourglass.redisTlsVolume" -}}
{{- with .Values.redis.tls }}
{{- if and .enabled .existingSecret }}
- name: redis-tls
  secret:
    secretName: {{ include "hourglass.text" .existingSecret }}
    defaultMode: 0440
    items:
      {{- if .caKey }}
      - key: {{ include "hourglass.text" .caKey }}
        path: ca.crt
      {{- end }}
      {{- if .certKey }}
      - key: {{ include "hourglass.text" .certKey }}
        path: tls.crt
      - key: {{ include "hourglass.text" .keyKey }}
        path: tls.key
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "hourglass.redisTlsMount" -}}
{{- if and .Values.redis.tls.enabled .Values.redis.tls.existingSecret }}
- name: redis-tls
  mountPath: {{ include "hourglass.redisTlsFolder" . | quote }}
  readOnly: true
{{- end }}
{{- end -}}
