{{- define "hourglass.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "hourglass.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "hourglass.labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- include "hourglass.texts" . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{- define "hourglass.extraManifests" -}}
{{- range .Values.extraManifests }}
---
{{ tpl (kindIs "string" . | ternary . (toYaml .)) $ }}
{{- end }}
{{- end -}}

{{/*
The pod of `helm test`, with the service's image: checks that the service is ready and exports its metrics.
Its name label differs from the service's, so that no selector of the service's pods matches it.
Called with a dict: root, metric (one that the service always exports).
*/}}
{{- define "hourglass.test" -}}
{{- $ := .root -}}
apiVersion: v1
kind: Pod
metadata:
  name: '{{ include "hourglass.fullname" $ }}-test'
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "hourglass.testSelectorLabels" $ | nindent 4 }}
    {{- include "hourglass.descriptiveLabels" $ | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "hourglass.serviceAccountName" $ | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- include "hourglass.pullSecrets" . | nindent 4 }}
  {{- end }}
  {{- with $.Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.nodeSelector }}
  nodeSelector:
    {{- include "hourglass.texts" . | nindent 4 }}
  {{- end }}
  containers:
    - name: test
      image: {{ include "hourglass.image" $ | quote }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      {{- with $.Values.containerSecurityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      command:
        - python
        - -c
        - |
          import sys, time
          from urllib.request import urlopen

          def read(url, tries=10):
              # Network policies take some seconds to apply to a new pod.
              try:
                  with urlopen(url, timeout=5) as response:
                      return response.read().decode()
              except OSError as error:
                  if tries == 1:
                      sys.exit(f"{url}: {error}")
              time.sleep(1)
              return read(url, tries - 1)

          service, metric = sys.argv[1:]
          for path, expected in ("/livez", "ok"), ("/readyz", "ok"), ("/metrics", metric):
              if expected not in read(service + path):
                  sys.exit(f"{path} does not contain {expected}")
              print(path, "contains", expected)
        - {{ printf "http://%s:%d" (include "hourglass.fullname" $) (int $.Values.config.httpPort) | quote }}
        - {{ .metric }}
      resources:
        requests:
          cpu: 10m
          memory: 32Mi
        limits:
          memory: 64Mi
{{- end -}}
