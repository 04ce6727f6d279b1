# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of everything that talks to a cluster, spelled as in kubernetes.core."""

from __future__ import annotations


class ModuleDocFragment:
    """How a cluster is reached."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - A kubeconfig, as a path (several with C(:) between them) or as data.
      - By default E(K8S_AUTH_KUBECONFIG), E(KUBECONFIG), C(~/.kube/config), or the service account of the pod that this
        runs in.
    type: raw
  context:
    description: A context of the kubeconfig. By default E(K8S_AUTH_CONTEXT), or its current one.
    type: str
  host:
    description: The address of the API server, like C(https://10.0.0.1:6443). By default E(K8S_AUTH_HOST).
    type: str
  api_key:
    description: A bearer token. By default E(K8S_AUTH_API_KEY).
    type: str
  username:
    description: A user name, for basic authentication. By default E(K8S_AUTH_USERNAME).
    type: str
  password:
    description: The password of O(username). By default E(K8S_AUTH_PASSWORD).
    type: str
  client_cert:
    description: A file with a client certificate. By default E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description: A file with the key of O(client_cert). By default E(K8S_AUTH_KEY_FILE), or the file of O(client_cert).
    type: path
    aliases: [key_file]
  ca_cert:
    description: A file with the certificate authorities to trust. By default E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  tls_server_name:
    description:
      - The name that the server's certificate has to be for, where that is not the one in its address.
      - By default E(K8S_AUTH_TLS_SERVER_NAME).
    type: str
  validate_certs:
    description: Whether the server's certificate is checked. By default E(K8S_AUTH_VERIFY_SSL), or yes.
    type: bool
    aliases: [verify_ssl]
  proxy:
    description: An HTTP proxy to go through. By default E(K8S_AUTH_PROXY), the kubeconfig, or E(HTTPS_PROXY).
    type: str
  no_proxy:
    description: Hosts that are reached without a proxy, with commas between them. By default E(K8S_AUTH_NO_PROXY).
    type: str
  proxy_headers:
    description: Headers for O(proxy).
    type: dict
    suboptions:
      basic_auth:
        description: C(user:password). By default E(K8S_AUTH_PROXY_HEADERS_BASIC_AUTH).
        type: str
      proxy_basic_auth:
        description: C(user:password) for the proxy itself. By default E(K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH).
        type: str
      user_agent:
        description: A user agent. By default E(K8S_AUTH_PROXY_HEADERS_USER_AGENT).
        type: str
  impersonate_user:
    description: Whom to act as. By default E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description: Groups to act as a member of, beside O(impersonate_user). By default E(K8S_AUTH_IMPERSONATE_GROUPS).
    type: list
    elements: str
  eks_cluster:
    description:
      - The name of a cluster of EKS. Its address and certificate authority are asked of AWS, and tokens for it are made
        here, anew before they expire; no program of AWS is needed.
    type: str
  region:
    description:
      - The region of O(eks_cluster).
      - By default E(AWS_REGION), E(AWS_DEFAULT_REGION), or what the profile says.
    type: str
    aliases: [aws_region]
  profile:
    description: A profile of the AWS configuration files. By default E(AWS_PROFILE).
    type: str
    aliases: [aws_profile]
  access_key:
    description: An access key of AWS. By default whatever boto3 finds.
    type: str
    aliases: [aws_access_key_id, aws_access_key]
  secret_key:
    description: The secret key that belongs to O(access_key).
    type: str
    aliases: [aws_secret_access_key, aws_secret_key]
  session_token:
    description: The token that belongs to temporary credentials.
    type: str
    aliases: [aws_session_token]
  assume_role_arn:
    description: A role that is assumed before EKS is asked, and that the tokens are for.
    type: str
  external_id:
    description: The external id that the trust policy of O(assume_role_arn) asks for.
    type: str
  role_session_name:
    description:
      - The session name under which O(assume_role_arn) is assumed, as CloudTrail records it. V(crypto-lakehouse) by
        default.
    type: str
  endpoint_url:
    description: Where the APIs of AWS are, if not at AWS. By default E(AWS_ENDPOINT_URL).
    type: str
    aliases: [aws_endpoint_url]
  aws_ca_bundle:
    description: A file with the certificate authorities to trust for AWS. By default E(AWS_CA_BUNDLE).
    type: path
requirements:
  - kubernetes (its dependencies urllib3 and PyYAML are what is used)
  - boto3, with O(eks_cluster)
"""
