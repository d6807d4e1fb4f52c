{{- /* Labels of the objects of one part: (list ROOT NAME COMPONENT). */ -}}
{{- define "labels" -}}
{{ include "identity" . }}
app.kubernetes.io/component: {{ index . 2 }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Labels by which pods of one part are selected. */ -}}
{{- define "selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end -}}

{{- define "identity" -}}
{{ include "selector" . }}
app.kubernetes.io/part-of: kfadapter
{{- end -}}

{{- define "image" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default (.Chart.AppVersion | replace "+" "_") }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end -}}

{{- /* The fields of every pod: as the Pod Security Standard "restricted" requires. */ -}}
{{- define "pod" -}}
serviceAccountName: {{ .Release.Name }}
enableServiceLinks: false # KFADAPTER_PORT and the like, made of a Service's name, are no settings
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001 # lets it write to volumes, and read Secrets
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Rules of policies: the Kubernetes API server, which is no pod; issuers' keys; istiod; DNS: the cluster's, or the node's own cache; the adapter. */ -}}
{{- define "to.kubernetes" -}}
ports: [{protocol: TCP, port: 443}, {protocol: TCP, port: 6443}]
{{- end -}}

{{- define "to.issuers" -}}
ports: [{protocol: TCP, port: 443}]
{{- end -}}

{{- define "to.istiod" -}}
to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: istio-system}}}]
ports: [{protocol: TCP, port: 15012}]
{{- end -}}

{{- define "to.dns" -}}
to: [{namespaceSelector: {}}, {ipBlock: {cidr: 169.254.20.10/32}}]
ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{- end -}}

{{- define "to.adapter" -}}
to:
  - podSelector:
      matchLabels: {{- include "selector" (list . "kfadapter") | nindent 8 }}
ports: [{protocol: TCP, port: 50051}]
{{- end -}}
