{{- define "averages-consumer.checks" -}}
{{- $warehouse := .Values.warehouse -}}
{{- if and (not $warehouse.existingSecret) (gt (int (default 1 .Values.replicaCount)) 1) -}}
{{- fail "replicaCount is more than 1 and warehouse.existingSecret is empty: an SQLite file has one writer, name a Secret with a PostgreSQL URL" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.config.web) -}}
{{- fail "ingress.enabled is true and config.web is false: there is no page to lead to, switch one of them" -}}
{{- end -}}
{{- if and .Values.config.web (eq (int .Values.config.httpPort) (int .Values.config.webPort)) -}}
{{- fail "config.httpPort and config.webPort are the same: the metrics and the web page need a port each" -}}
{{- end -}}
{{- end -}}

{{- define "averages-consumer.env" -}}
- name: HOURGLASS_WAREHOUSE_URL
{{- if .Values.warehouse.existingSecret }}
  valueFrom:
    secretKeyRef:
      name: {{ include "hourglass.text" .Values.warehouse.existingSecret }}
      key: {{ include "hourglass.text" .Values.warehouse.urlKey }}
{{- else }}
  value: {{ include "hourglass.scalar" .Values.warehouse.sqlite.fileName | urlquery | replace "+" "%20" | printf "sqlite:////data/%s" | quote }}
{{- end }}
{{- end -}}

{{- define "averages-consumer.volumes" -}}
{{- if not .Values.warehouse.existingSecret -}}
- name: data
{{- if .Values.warehouse.sqlite.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ include "averages-consumer.claim" . | quote }}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "averages-consumer.volumeMounts" -}}
{{- if not .Values.warehouse.existingSecret -}}
- name: data
  mountPath: /data
{{- end -}}
{{- end -}}

{{- define "averages-consumer.claim" -}}
{{- include "hourglass.scalar" .Values.warehouse.sqlite.persistence.existingClaim | default (include "hourglass.fullname" .) -}}
{{- end -}}

{{- define "averages-consumer.egress" -}}
{{- if .Values.warehouse.existingSecret -}}
- ports:
    - port: {{ int .Values.warehouse.port }}
      protocol: TCP
{{- end -}}
{{- end -}}
