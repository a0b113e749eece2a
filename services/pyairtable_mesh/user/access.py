"""Who may call what: users and groups are the tenant's, so every permission is asked on the caller's own tenant."""

from pyairtable_mesh.runtime.access import AccessTable, authenticated, own, tenant

_READ = tenant("read")
_MANAGE_USERS = tenant("manage_users")
_MANAGE_GROUPS = tenant("manage_groups")

ACCESS: AccessTable = {
    "CreateUser": _MANAGE_USERS,
    "GetUser": _READ,
    "GetMe": authenticated(),
    "BatchGetUsers": _READ,
    "UpdateUser": own("user.name") | _MANAGE_USERS,
    "DeleteUser": _MANAGE_USERS,
    "UndeleteUser": _MANAGE_USERS,
    "ListUsers": _READ,
    "SearchUsers": _READ,
    "GetPreferences": own("name"),
    "UpdatePreferences": own("preferences.name"),
    "GetSettings": own("name"),
    "UpdateSettings": own("settings.name"),
    "SetUserStatus": _MANAGE_USERS,
    "CreateGroup": _MANAGE_GROUPS,
    "GetGroup": _READ,
    "ListGroups": _READ,
    "UpdateGroup": _MANAGE_GROUPS,
    "DeleteGroup": _MANAGE_GROUPS,
    "AddGroupMember": _MANAGE_GROUPS,
    "RemoveGroupMember": _MANAGE_GROUPS,
    "ListGroupMembers": _READ,
}
