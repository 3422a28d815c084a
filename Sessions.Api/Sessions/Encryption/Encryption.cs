using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Sets up encryption where it is asked for, and sees to it that nothing goes on without it that needs it.</summary>
internal static class Encryption
{
    /// <summary>Registers what encrypts.</summary>
    /// <exception cref="SettingsException">The settings don't go together, or there is no usable master key.</exception>
    public static void AddEncryption(this WebApplicationBuilder builder, SessionSettings sessions)
    {
        var settings = builder.AddSettings<EncryptionSettings>(EncryptionSettings.Section);
        if (settings.Enabled)
        {
            if (sessions.StorageType == StorageType.Memory)
            {
                throw new SettingsException("encryption.enabled is for what is stored outside of the process: sessions.storage_type sqlite or redis, not memory.");
            }

            builder.Services.AddSingleton(MasterKeys.Read(settings, YamlConfiguration.BaseFolder(builder.Configuration)));
            builder.Services.AddSingleton<UserKeyRing>();
        }

        if (sessions.StorageType == StorageType.Redis)
        {
            builder.Services.AddSingleton<IUserKeys, RedisUserKeys>();
        }
        else if (sessions.StorageType == StorageType.Sqlite)
        {
            builder.Services.AddSingleton<IUserKeys>(services => new SqliteUserKeys(services.GetRequiredService<SqliteFile>().Path));
        }

        builder.Services.AddHostedService<Check>();
    }

    /// <summary>Looks whether the master keys are those that the stored data needs, and whether encrypted data is met without any.</summary>
    /// <exception cref="SettingsException">They are not, or it is.</exception>
    public static async Task CheckAsync(IServiceProvider services, CancellationToken cancellationToken)
    {
        if (services.GetService<UserKeyRing>() is { } ring)
        {
            try
            {
                // Nobody's key is made with the first start, and read by each.
                await ring.ForWritingAsync(null, cancellationToken);
            }
            catch (StoreUnavailableException e)
            {
                throw new SettingsException($"encryption: {e.Message} Put the key that they were encrypted with behind the current one.");
            }
        }
        else if (services.GetService<SqliteFile>() is { } file ? SqliteUserKeys.Exists(file.Path)
            : services.GetService<IUserKeys>() is { } keys && await keys.FindAsync("", cancellationToken) is not null)
        {
            throw new SettingsException("What is stored was encrypted: set encryption.enabled, and the master key. docs/encryption.md tells how to decrypt it for good.");
        }
    }

    private sealed class Check(IServiceProvider services) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken) => CheckAsync(services, cancellationToken);

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
