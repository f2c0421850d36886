# From an empty account to a function that reaches a tenant's server: two VPCs, two gateways, a function host, a server. docs/aws.md.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.88"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = var.name }
  }
}

data "aws_caller_identity" "this" {}

locals {
  zone  = "${var.region}a"
  hosts = { host-1 = { number = 1, outer = "10.9.64.11" } }
}

# The platform: gateways in a private subnet, the function host in a public one, so that you get to it.
resource "aws_vpc" "platform" {
  cidr_block           = "10.9.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = "${var.name}-platform" }
}

resource "aws_subnet" "gateways" {
  vpc_id            = aws_vpc.platform.id
  cidr_block        = "10.9.0.0/24"
  availability_zone = local.zone
  tags              = { Name = "${var.name}-gateways" }
}

resource "aws_subnet" "hosts" {
  vpc_id            = aws_vpc.platform.id
  cidr_block        = "10.9.64.0/24"
  availability_zone = local.zone
  tags              = { Name = "${var.name}-hosts" }
}

resource "aws_internet_gateway" "platform" {
  vpc_id = aws_vpc.platform.id
  tags   = { Name = var.name }
}

resource "aws_route_table" "hosts" {
  vpc_id = aws_vpc.platform.id
  tags   = { Name = "${var.name}-hosts" }
}

resource "aws_route" "hosts" {
  route_table_id         = aws_route_table.hosts.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.platform.id
}

resource "aws_route_table_association" "hosts" {
  subnet_id      = aws_subnet.hosts.id
  route_table_id = aws_route_table.hosts.id
}

# By which gateways fetch packages and call AWS.
resource "aws_eip" "nat" {
  domain = "vpc"
  tags   = { Name = "${var.name}-nat" }
}

resource "aws_nat_gateway" "platform" {
  allocation_id = aws_eip.nat.allocation_id
  subnet_id     = aws_subnet.hosts.id
  tags          = { Name = var.name }

  depends_on = [aws_internet_gateway.platform]
}

resource "aws_route_table" "gateways" {
  vpc_id = aws_vpc.platform.id
  tags   = { Name = "${var.name}-gateways" }
}

resource "aws_route" "gateways" {
  route_table_id         = aws_route_table.gateways.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.platform.id
}

resource "aws_route_table_association" "gateways" {
  subnet_id      = aws_subnet.gateways.id
  route_table_id = aws_route_table.gateways.id
}

# The tenant: one subnet, with a server and the gateways' interfaces.
resource "aws_vpc" "acme" {
  cidr_block = "172.16.0.0/16"
  tags       = { Name = "${var.name}-acme" }
}

resource "aws_subnet" "acme" {
  vpc_id            = aws_vpc.acme.id
  cidr_block        = "172.16.101.0/24"
  availability_zone = local.zone
  tags              = { Name = "${var.name}-acme" }
}

# The package, where the machines fetch it.
resource "aws_s3_bucket" "package" {
  bucket        = "${var.name}-${data.aws_caller_identity.this.account_id}-${var.region}"
  force_destroy = true
}

resource "aws_s3_object" "package" {
  bucket      = aws_s3_bucket.package.id
  key         = basename(var.package)
  source      = var.package
  source_hash = filesha256(var.package)
}

module "secrets" {
  source = "../../modules/secrets"
  count  = var.ha_key == null ? 1 : 0

  prefix = "/portway/${var.name}"
}

module "gateways" {
  source = "../../modules/appliance"

  name = var.name
  platform = {
    subnets                       = { a = aws_subnet.gateways }
    function_host_security_groups = { hosts = module.hosts.security_group_id }
  }
  tenants = {
    acme = {
      subnets = { a = aws_subnet.acme }
      key     = 7
      inner   = "10.64.0.0/16"
      allow   = [{ to = "172.16.0.0/16", tcp = ["80", "5432"], icmp = true }]
      shards  = [{ shard = 0, platform = "10.9.0.50", tenant = "172.16.101.10" }]
    }
  }
  nodes = {
    gw-1 = { subnet = "a", platform = "10.9.0.11", tenants = { acme = "172.16.101.11" } }
    gw-2 = { subnet = "a", platform = "10.9.0.12", tenants = { acme = "172.16.101.12" } }
  }
  hosts    = local.hosts
  ha       = { keys = [{ secret = var.ha_key == null ? module.secrets[0].arns.ha : var.ha_key }] }
  instance = { key_name = aws_key_pair.this.key_name, image = var.image }
  package  = local.package
  # From the function host, on the way to a gateway.
  ssh_cidrs = [aws_subnet.hosts.cidr_block]
}

module "hosts" {
  source = "../../modules/function-host"

  name       = var.name
  vpc_id     = aws_vpc.platform.id
  appliances = [module.gateways.function_host]
  hosts      = { for name, host in local.hosts : name => { outer = host.outer } }
  package    = local.package
}

locals {
  package = {
    sha256 = filesha256(var.package)
    s3     = { bucket = aws_s3_bucket.package.id, key = aws_s3_object.package.key }
  }
}
