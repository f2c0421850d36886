output "host_yaml" {
  description = "host.yaml of each host, ready for `portway host`."
  value       = { for name, text in local.configs : name => replace(text, "@primary_interface@", var.hosts[name].interface) }
}

output "user_data_base64" {
  description = "By host, for `user_data_base64` of its instance: installs Portway, writes host.yaml and starts it at the first boot."
  value       = { for name, boot in module.boot : name => boot.user_data_base64 }
}

output "user_data" {
  description = "The same for people to read."
  value       = { for name, boot in module.boot : name => boot.cloud_config }
}

output "security_group_id" {
  description = "The hosts' security group; for `function_host_security_groups` of the appliances too."
  value       = aws_security_group.host.id
}

output "instance_profile" {
  description = "Name of the hosts' instance profile, by which they read their secrets and the package."
  value       = aws_iam_instance_profile.host.name
}

output "ansible_inventory" {
  description = "An inventory for Ansible, YAML: the group `portway_hosts`, each with its `portway_host_config`."
  value = yamlencode({
    portway_hosts = {
      hosts = {
        for name, text in local.configs : name => {
          ansible_host        = var.hosts[name].outer
          portway_host_config = yamldecode(replace(text, "@primary_interface@", var.hosts[name].interface))
        }
      }
    }
  })
}
