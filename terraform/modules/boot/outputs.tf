output "user_data_base64" {
  description = "For `user_data_base64` of an instance, or `user_data` of a launch template: compressed, as cloud-init takes it."
  value       = local.user_data

  # 16384 bytes: EC2 User Guide, "Run commands when you launch an EC2 instance with user data input".
  precondition {
    condition     = length(local.user_data) <= 4 * 16384 / 3
    error_message = "The user data is ${floor(length(local.user_data) * 3 / 4)} bytes long, and EC2 takes 16384: give fewer hosts in the file (a directory knows any number), or fewer tenants to one appliance."
  }
}

output "cloud_config" {
  description = "The same for people to read."
  value       = local.cloud_config
}
