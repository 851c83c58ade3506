{{- define "hourglass.name" -}}
{{- include "hourglass.scalar" .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/*
At most 52 characters: a StatefulSet's pods carry eleven more in a label. A Service's name begins with a letter, which a
release's need not.
*/}}
{{- define "hourglass.fullname" -}}
{{- $name := include "hourglass.scalar" .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full = include "hourglass.scalar" .Values.fullnameOverride | default $full -}}
{{- regexReplaceAll "^[0-9]" $full "hourglass-${0}" | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* A selector cannot change after the installation, so it has no label that an upgrade changes. */}}
{{- define "hourglass.selectorLabels" -}}
app.kubernetes.io/name: {{ include "hourglass.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Of the pod of `helm test`, which no Service and no PodDisruptionBudget of the workload may select. */}}
{{- define "hourglass.testSelectorLabels" -}}
app.kubernetes.io/name: '{{ include "hourglass.name" . }}-test'
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "hourglass.labels" -}}
{{ include "hourglass.selectorLabels" . }}
{{ include "hourglass.descriptiveLabels" . }}
{{- end -}}

{{- define "hourglass.descriptiveLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hourglass
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end -}}

{{- define "hourglass.serviceAccountName" -}}
{{- include "hourglass.scalar" .Values.serviceAccount.name | default (ternary (include "hourglass.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* registry/repository:tag, or @digest where there is one. */}}
{{- define "hourglass.image" -}}
{{- with (.Values.global).imageRegistry | default .Values.image.registry }}{{ include "hourglass.scalar" . }}/{{ end -}}
{{- include "hourglass.scalar" .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}
{{- else }}:{{ include "hourglass.scalar" .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Names of Secrets, or objects with a name, as Kubernetes has them. */}}
{{- define "hourglass.pullSecrets" -}}
{{- range . }}
- name: {{ if kindIs "map" . }}{{ include "hourglass.text" .name }}{{ else }}{{ include "hourglass.text" . }}{{ end }}
{{- end }}
{{- end -}}
