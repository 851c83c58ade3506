{{/* Contradictions between values, which a schema cannot express well. */}}
{{- define "hourglass.checks" -}}
{{- $values := .Values -}}
{{- if and (($values.autoscaling).enabled) (($values.keda).enabled) -}}
{{- fail "autoscaling.enabled and keda.enabled are both true: two autoscalers would fight over the replicas, switch one off" -}}
{{- end -}}
{{- range $scaler := list "autoscaling" "keda" -}}
{{- with index $values $scaler -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "%s.minReplicas is above %s.maxReplicas: give no more than that" $scaler $scaler) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.podMonitor.enabled $values.serviceMonitor.enabled -}}
{{- fail "podMonitor.enabled and serviceMonitor.enabled are both true: every pod would be scraped twice, switch one off" -}}
{{- end -}}
{{- if and (($values.keda).enabled) (not (($values.keda).prometheus).serverAddress) -}}
{{- fail "keda.prometheus.serverAddress is empty: give the address of the Prometheus that has hourglass_aggregate_lag" -}}
{{- end -}}
{{- with $values.redis.tls -}}
{{- if ne (empty .certKey) (empty .keyKey) -}}
{{- fail "redis.tls.certKey and redis.tls.keyKey go together: give both for a client certificate, or neither" -}}
{{- end -}}
{{- if and (or .certKey .keyKey) (not .existingSecret) -}}
{{- fail "redis.tls.certKey is set and redis.tls.existingSecret is empty: name the Secret that holds the client certificate" -}}
{{- end -}}
{{- if and .existingSecret (not .enabled) -}}
{{- fail "redis.tls.existingSecret is set and redis.tls.enabled is false: enable TLS, or leave the Secret out" -}}
{{- end -}}
{{- end -}}
{{- end -}}
