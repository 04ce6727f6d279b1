{{- $name := .Values.fullnameOverride }}
{{- range $part, $port := dict "prometheus" 9090 "alertmanager" 9093 }}
---
apiVersion: v1
kind: Service
metadata: {name: {{ $name }}-{{ $part }}, namespace: {{ $.Release.Namespace }}}
spec:
  selector: {app.kubernetes.io/name: {{ $part }}}
  ports: [{name: http-web, port: {{ $port }}, targetPort: {{ $port }}}]
{{- end }}
---
apiVersion: v1
kind: Secret
metadata: {name: alertmanager-{{ $name }}, namespace: {{ .Release.Namespace }}}
data: {alertmanager.yaml: {{ toYaml .Values.alertmanager.config | b64enc }}}
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {name: {{ $name }}, namespace: {{ .Release.Namespace }}}
spec:
  replicas: {{ .Values.prometheus.prometheusSpec.replicas }}
  retention: {{ .Values.prometheus.prometheusSpec.retention }}
  storage: {{ toJson .Values.prometheus.prometheusSpec.storageSpec }}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Values.grafana.fullnameOverride }}, namespace: {{ .Release.Namespace }}}
{{- with .Values.grafana.persistence }}
{{- if .enabled }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $.Values.grafana.fullnameOverride }}
  namespace: {{ $.Release.Namespace }}
  annotations: {{ toJson .annotations }}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: {{ .size }}}}
{{- end }}
{{- end }}
{{- if .Values.grafana.ingress.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: {{ .Values.grafana.fullnameOverride }}, namespace: {{ .Release.Namespace }}}
spec:
  tls: {{ toJson .Values.grafana.ingress.tls }}
  rules:
    - host: {{ index .Values.grafana.ingress.hosts 0 }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: {{ .Values.grafana.fullnameOverride }}, port: {number: 80}}}
{{- end }}
---
# A hook is Helm's own affair: it is run once and is no object of the release.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}-hook
  namespace: {{ .Release.Namespace }}
  annotations: {helm.sh/hook: post-install, helm.sh/hook-delete-policy: before-hook-creation}
