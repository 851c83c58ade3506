{{/* Takes the dict of hourglass.workload. */}}
{{- define "hourglass.pod" -}}
{{- $ := .root -}}
{{- $values := $.Values -}}
metadata:
  labels:
    {{- include "hourglass.labels" $ | nindent 4 }}
    {{- with $values.podLabels }}
    {{- include "hourglass.textTemplates" (dict "root" $ "texts" .) | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "hourglass.configData" $ | sha256sum | quote }}
    {{- with $values.podAnnotations }}
    {{- include "hourglass.textTemplates" (dict "root" $ "texts" .) | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "hourglass.serviceAccountName" $ | quote }}
  automountServiceAccountToken: false
  # The variables of other Services, HOURGLASS_…_PORT among them, would look like options.
  enableServiceLinks: false
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- include "hourglass.pullSecrets" . | nindent 4 }}
  {{- end }}
  {{- with $values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int $values.terminationGracePeriodSeconds }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ include "hourglass.text" . }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- include "hourglass.texts" . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- tpl (toYaml .) $ | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "hourglass.selectorLabels" $ | nindent 10 }}
      {{- end }}
      {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- with $values.extraInitContainers }}
  initContainers:
    {{- tpl (toYaml .) $ | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $.Chart.Name | quote }}
      image: {{ include "hourglass.image" $ | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      # So the pod's status shows the error message of a container that exits.
      terminationMessagePolicy: FallbackToLogsOnError
      {{- with $values.containerSecurityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      envFrom:
        - configMapRef:
            name: {{ include "hourglass.fullname" $ | quote }}
        {{- with $values.extraEnvFrom }}
        {{- tpl (toYaml .) $ | nindent 8 }}
        {{- end }}
      env:
        {{- include "hourglass.env" $ | nindent 8 }}
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraEnv }}
        {{- tpl (toYaml .) $ | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ int $values.config.httpPort }}
        {{- with .ports }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- include "hourglass.probes" $ | nindent 6 }}
      {{- with $values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- with include "hourglass.redisTlsMount" $ }}
        {{- . | trim | nindent 8 }}
        {{- end }}
        {{- with .volumeMounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- tpl (toYaml .) $ | nindent 8 }}
        {{- end }}
    {{- with $values.extraContainers }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- with include "hourglass.redisTlsVolume" $ }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "hourglass.probes" -}}
{{- range $name, $path := dict "startup" "/livez" "liveness" "/livez" "readiness" "/readyz" }}
{{ $name }}Probe:
  httpGet:
    path: {{ $path }}
    port: http
  {{- range $setting, $number := index $.Values.probes $name }}
  {{ $setting }}: {{ int $number }}
  {{- end }}
{{- end }}
{{- end -}}
