output "gateway_yaml" {
  description = "gateway.yaml of each gateway."
  value       = module.gateways.gateway_yaml
}

output "host_yaml" {
  description = "host.yaml of each function host."
  value       = module.hosts.host_yaml
}

output "host_user_data" {
  description = "For the function hosts' `user_data_base64`, by name."
  value       = module.hosts.user_data_base64
}

output "host" {
  description = "What function hosts are to have: their security group and instance profile."
  value       = { security_group = module.hosts.security_group_id, instance_profile = module.hosts.instance_profile }
}

output "ansible_inventory" {
  description = "Gateways and hosts for Ansible."
  value       = yamlencode(merge(yamldecode(module.gateways.ansible_inventory), yamldecode(module.hosts.ansible_inventory)))
}
