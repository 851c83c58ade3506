{{/*
A value may be written as another type than the manifest needs: `--set key=123` is a number, `--set key=0.5` is text.
Numbers go through int, all other values through one of these.
*/}}

{{/* A value as text: Helm passes 1000000 as 1e+06. */}}
{{- define "hourglass.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else if not (kindIs "invalid" .) }}{{ toString . }}{{ end -}}
{{- end -}}

{{/* The same, quoted: an unquoted 0123, true or *.example.com is no text in YAML. */}}
{{- define "hourglass.text" -}}
{{- include "hourglass.scalar" . | quote -}}
{{- end -}}

{{/* A map of texts, such as labels. */}}
{{- define "hourglass.texts" -}}
{{- range $key, $value := . }}
{{ $key | quote }}: {{ include "hourglass.text" $value }}
{{- end }}
{{- end -}}

{{/* A map of templates of texts. Called with a dict: root, texts. */}}
{{- define "hourglass.textTemplates" -}}
{{- range $key, $value := .texts }}
{{ $key | quote }}: {{ tpl (include "hourglass.scalar" $value) $.root | quote }}
{{- end }}
{{- end -}}

{{- define "hourglass.countOrPercent" -}}
{{- $text := include "hourglass.scalar" . -}}
{{- if hasSuffix "%" $text }}{{ quote $text }}{{ else }}{{ int $text }}{{ end -}}
{{- end -}}
