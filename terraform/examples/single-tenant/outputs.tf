output "host" {
  description = "Where the function host is."
  value       = aws_instance.host["host-1"].public_ip
}

output "try" {
  description = "A function asks the tenant's server, which says who asked."
  value       = "ssh admin@${aws_instance.host["host-1"].public_ip} sudo sh -s < function.sh"
}

output "gateway_yaml" {
  description = "gateway.yaml of each gateway."
  value       = module.gateways.gateway_yaml
}

output "host_yaml" {
  description = "host.yaml of each function host."
  value       = module.hosts.host_yaml
}

output "nodes" {
  description = "The gateways."
  value       = module.gateways.nodes
}

output "ansible_inventory" {
  description = "Gateways and hosts for Ansible."
  value       = yamlencode(merge(yamldecode(module.gateways.ansible_inventory), yamldecode(module.hosts.ansible_inventory)))
}

output "policy" {
  description = "What the gateways may do at AWS's API."
  value       = module.gateways.policy
}
