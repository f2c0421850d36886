mock_data "aws_region" {
  defaults = { name = "eu-central-1" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_ssm_parameter" {
  defaults = { value = "ami-0123456789abcdef0" }
}

mock_data "aws_ec2_instance_type" {
  defaults = { maximum_network_interfaces = 3, maximum_ipv4_addresses_per_interface = 10 }
}

mock_resource "aws_network_interface" {
  defaults = {
    id          = "eni-0123456789abcdef0"
    arn         = "arn:aws:ec2:eu-central-1:123456789012:network-interface/eni-0123456789abcdef0"
    mac_address = "0a:00:00:00:00:01"
    private_ip  = "10.9.0.11"
  }
}

mock_resource "aws_security_group" {
  defaults = { id = "sg-0123456789abcdef0" }
}

mock_resource "aws_eip" {
  defaults = { allocation_id = "eipalloc-0123456789abcdef0", public_ip = "198.51.100.7" }
}

mock_resource "aws_iam_instance_profile" {
  defaults = { arn = "arn:aws:iam::123456789012:instance-profile/portway" }
}

mock_resource "aws_launch_template" {
  defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
}
