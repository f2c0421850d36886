# What each validation refuses. Terraform's mocks know no ephemeral resources yet: tests/terraform runs this over the variables alone, and applies the whole
# to a simulated AWS.

variables {
  package  = "variables.tf"
  ssh_key  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJ0 you@example"
  ssh_from = "198.51.100.7/32"
}

run "no_package" {
  command = plan

  variables {
    package = "there-is-none.deb"
  }

  expect_failures = [var.package]
}

run "a_private_key" {
  command = plan

  variables {
    ssh_key = "-----BEGIN OPENSSH PRIVATE KEY-----"
  }

  expect_failures = [var.ssh_key]
}

run "the_whole_Internet" {
  command = plan

  variables {
    ssh_from = "0.0.0.0/0"
  }

  expect_failures = [var.ssh_from]
}
