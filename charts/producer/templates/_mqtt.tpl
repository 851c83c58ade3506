{{/* The port of the MQTT broker. */}}
{{- define "producer.egress" -}}
{{- with include "hourglass.scalar" .Values.config.mqttUrl -}}
- ports:
    - port: {{ regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "8883" "1883" (hasPrefix "mqtts:" .)) }}
      protocol: TCP
{{- end -}}
{{- end -}}
