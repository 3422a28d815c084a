using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Commands on the keys that users' texts are encrypted with.</summary>
internal static class EncryptionCommands
{
    /// <summary>Wraps all users' keys with the first of the master keys, so that the others can be taken away.</summary>
    public static async Task<string> RekeyAsync(WebApplicationBuilder builder, CancellationToken cancellationToken)
    {
        builder.AddSessions();
        await using var app = builder.Build();
        var ring = app.Services.GetService<UserKeyRing>() ?? throw new SettingsException("encryption.enabled is false: there is no key to wrap.");
        var (rewrapped, keys) = await ring.RewrapAsync(cancellationToken);
        return $"{rewrapped} of {keys} keys are wrapped anew; all are under the current master key.";
    }
}
